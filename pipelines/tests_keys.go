package pipelines

import (
	"reflect"
	"time"
)

// testFileKeys are the keys of a file of tests.
type testFileKeys struct {
	Tests *node `yaml:"tests,required" doc:"The tests, each of which names its pipeline."`
}

// testKeys are the keys of a test that stands in its pipeline.
type testKeys struct {
	Name   string `yaml:"name,required" doc:"What the test shows, in words."`
	Given  *node  `yaml:"given,required" doc:"What goes in: an event, or a list of them in their order."`
	Mock   *node  `yaml:"mock" doc:"How sinks answer, by name; one that is not named accepts everything."`
	Expect *node  `yaml:"expect,required" doc:"What must come out; of what is not named, nothing is asked."`
}

// fileTestKeys are the keys of a test in a file of tests.
type fileTestKeys struct {
	Pipeline string `yaml:"pipeline,required" doc:"The pipeline that is tested."`
	Name     string `yaml:"name,required" doc:"What the test shows, in words."`
	Given    *node  `yaml:"given,required" doc:"What goes in: an event, or a list of them in their order."`
	Mock     *node  `yaml:"mock" doc:"How sinks answer, by name; one that is not named accepts everything."`
	Expect   *node  `yaml:"expect,required" doc:"What must come out; of what is not named, nothing is asked."`
}

// givenKeys are the keys of an event that a test gives.
type givenKeys struct {
	ID              string            `yaml:"id" doc:"The id; test-1, test-2 and so on unless set."`
	Source          string            `yaml:"source" doc:"The source; what the pipeline's source sets unless set."`
	Type            string            `yaml:"type" doc:"The type; what the pipeline's source sets unless set."`
	Subject         string            `yaml:"subject" doc:"The subject."`
	Time            string            `yaml:"time" doc:"The time, as RFC 3339 has it."`
	DataContentType string            `yaml:"datacontenttype" doc:"The media type of the data; application/json unless set."`
	DataSchema      string            `yaml:"dataschema" doc:"The schema of the data."`
	Ext             *node             `yaml:"ext" doc:"Extension attributes, by name."`
	Data            *node             `yaml:"data" doc:"The data: any value for JSON, a text for other media types."`
	Headers         map[string]string `yaml:"headers" doc:"Headers of the request, for a webhook."`
	Query           map[string]string `yaml:"query" doc:"The query of the request, for a webhook."`
	Params          map[string]string `yaml:"params" doc:"Parameters of the path, for a webhook whose path has some."`
}

// mockKeys are the keys of a mocked sink. Attempts are counted for each event.
type mockKeys struct {
	Fail   int           `yaml:"fail,min=1" doc:"How many attempts of each event fail before the sink accepts it."`
	Status *node         `yaml:"status" doc:"What attempts are answered; in a list one after the other, the last again and again."`
	Delay  time.Duration `yaml:"delay,min=0s" doc:"How long an answer takes."`
}

// expectKeys are the keys beside the names of sinks.
type expectKeys struct {
	Sink        *node `yaml:"<sink>" doc:"What the sink accepted, in the order given: the members to compare; [] is nothing."`
	Attempts    *node `yaml:"attempts" doc:"How many attempts a sink got in all, by its name."`
	DeadLetters *node `yaml:"dead_letters" doc:"The dead letters: of each the members to compare; [] is none."`
}

// eventKeys are the members of an expected event. They are read as values, not into this struct.
type eventKeys struct {
	ID              string `yaml:"id" doc:"The id."`
	Source          string `yaml:"source" doc:"The source."`
	Type            string `yaml:"type" doc:"The type."`
	Subject         string `yaml:"subject" doc:"The subject."`
	Time            string `yaml:"time" doc:"The time, as it is written."`
	DataContentType string `yaml:"datacontenttype" doc:"The media type of the data."`
	DataSchema      string `yaml:"dataschema" doc:"The schema of the data."`
	Ext             *node  `yaml:"ext" doc:"Extension attributes, by name."`
	Data            *node  `yaml:"data" doc:"The data; of a map the written members, null for one that is not there."`
}

// letterKeys are the members of an expected dead letter.
type letterKeys struct {
	EventID   string `yaml:"event_id" doc:"The id of the event."`
	Sink      string `yaml:"sink" doc:"The sink; empty when a stage failed, or no sink wanted the event."`
	Stage     string `yaml:"stage" doc:"The stage that failed; when for the condition of a sink."`
	Reason    string `yaml:"reason,oneof=permanent|attempts|age|expired|on_error|unmatched" doc:"Why it is a dead letter."`
	Status    int    `yaml:"status" doc:"The status of the last answer; 0 is none."`
	Attempts  int    `yaml:"attempts" doc:"How many attempts there were."`
	LastError string `yaml:"last_error" doc:"The last error, or a part of it."`
}

// testShape is the shape of a test with these keys.
func testShape(keys any) *shape {
	sh := shapeOf(reflect.ValueOf(keys))
	given := shapeOf(reflect.ValueOf(givenKeys{}))
	given.put("data", &shape{kind: anyKind})
	given.put("ext", &shape{kind: mapKind, elem: &shape{kind: anyKind}})
	sh.put("given", given)
	mock := shapeOf(reflect.ValueOf(mockKeys{}))
	mock.put("status", &shape{kind: statusKind})
	sh.put("mock", &shape{kind: mapKind, elem: mock})
	expect := shapeOf(reflect.ValueOf(expectKeys{}))
	event := shapeOf(reflect.ValueOf(eventKeys{}))
	event.put("data", &shape{kind: anyKind})
	event.put("ext", &shape{kind: mapKind, elem: &shape{kind: anyKind}})
	expect.put("<sink>", &shape{kind: listKind, elem: event})
	expect.put("attempts", &shape{kind: mapKind, elem: &shape{kind: intKind}})
	expect.put("dead_letters", &shape{kind: listKind, elem: shapeOf(reflect.ValueOf(letterKeys{}))})
	sh.put("expect", expect)
	return sh
}

// testFileShape is the shape of a file of tests.
func testFileShape() *shape {
	sh := shapeOf(reflect.ValueOf(testFileKeys{}))
	sh.put("tests", &shape{kind: listKind, elem: testShape(fileTestKeys{})})
	return sh
}
