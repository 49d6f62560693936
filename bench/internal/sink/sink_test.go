package sink

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace-run/millrace/bench/internal/load"
)

// listen starts a sink, and a client without connections of earlier tests.
func listen(t *testing.T) (*Server, *http.Client) {
	t.Helper()
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, &http.Client{Transport: transport}
}

// post returns the status, 0 if there was no answer.
func post(t *testing.T, client *http.Client, url, body string) int {
	t.Helper()
	unsized := struct{ *strings.Reader }{strings.NewReader(body)} // so that it is sent in chunks
	res, err := client.Post(url, "application/json", unsized)
	if err != nil {
		return 0
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	return res.StatusCode
}

func order(n int) string { return string(load.Order(n, time.Now())) }

func TestCounts(t *testing.T) {
	s, client := listen(t)
	url := "http://" + s.Address()
	for _, body := range []string{
		order(1), order(2), order(1),
		"[" + order(3) + "," + order(4) + "," + order(2) + "]",
		fmt.Sprintf(`[{"specversion":"1.0","id":"x","data":%s},{"specversion":"1.0","data":%s}]`, order(5), order(70_000)),
		"nothing of interest",
	} {
		if status := post(t, client, url+"/a?b=c", body); status != 204 {
			t.Errorf("status %d", status)
		}
	}
	if status := post(t, client, url+"/b", order(1)); status != 204 {
		t.Errorf("status %d", status)
	}
	got := s.Path("/a").Tally()
	if got.Distinct != 6 || got.Duplicates != 2 || got.Requests != 6 || got.Strange != 1 || got.Refused != 0 ||
		got.Latency.Count() != 6 {
		t.Errorf("%+v", got)
	}
	if s.Path("/b").Distinct() != 1 || s.Path("/b").Tally().Duplicates != 0 {
		t.Error("paths are counted together")
	}
	if !s.Path("/a").Has(70_000) || s.Path("/a").Has(6) || s.Path("/a").Has(1<<30) {
		t.Error("the numbers are wrong")
	}
	if first, second := s.Path("/a").TakeLatency(), s.Path("/a").TakeLatency(); first.Count() != 6 || second.Count() != 0 {
		t.Errorf("latencies: %d, then %d", first.Count(), second.Count())
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		faults  Faults
		status  int
		refused int
	}{
		{"none", Faults{}, 204, 0},
		{"status", Faults{Status: 503, Probability: 1}, 503, 1},
		{"never", Faults{Status: 503}, 204, 0},
		{"reset", Faults{Reset: 1}, 0, 1},
		{"over", Faults{Status: 503, Probability: 1, Until: time.Now().Add(-time.Second)}, 204, 0},
		{"not over", Faults{Status: 429, Probability: 1, Until: time.Now().Add(time.Hour)}, 429, 1},
		{"delay", Faults{Delay: 20 * time.Millisecond}, 204, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, client := listen(t)
			s.Path("/a").Misbehave(c.faults)
			begin := time.Now()
			if status := post(t, client, "http://"+s.Address()+"/a", order(1)); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if took := time.Since(begin); took < c.faults.Delay {
				t.Errorf("it took %v", took)
			}
			got := s.Path("/a").Tally()
			if got.Refused != c.refused || got.Distinct != 1-c.refused {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestSometimes(t *testing.T) {
	s, client := listen(t)
	s.Path("/a").Misbehave(Faults{Status: 500, Probability: 0.5})
	statuses := map[int]int{}
	for i := range 200 {
		statuses[post(t, client, "http://"+s.Address()+"/a", order(i))]++
	}
	if statuses[500] < 50 || statuses[204] < 50 || statuses[500]+statuses[204] != 200 {
		t.Errorf("%v", statuses)
	}
}

// TestComesBack closes a sink in the middle of an answer and opens another at its address that goes on counting.
func TestComesBack(t *testing.T) {
	s, client := listen(t)
	url := "http://" + s.Address() + "/a"
	post(t, client, url, order(1))
	s.Path("/a").Misbehave(Faults{Delay: time.Hour})
	cut := make(chan int)
	go func() { cut <- post(t, client, url, order(2)) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if status := <-cut; status != 0 {
		t.Errorf("a sink that is closed answered %d", status)
	}
	if status := post(t, client, url, order(2)); status != 0 {
		t.Errorf("a closed sink answered %d", status)
	}
	again, err := Listen(s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	again.Take(s)
	again.Path("/a").Misbehave(Faults{})
	post(t, client, url, order(2))
	post(t, client, url, order(1))
	if got := again.Path("/a").Tally(); got.Distinct != 2 || got.Duplicates != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWait(t *testing.T) {
	s, client := listen(t)
	go post(t, client, "http://"+s.Address()+"/a", "["+order(1)+","+order(2)+"]")
	if err := s.Path("/a").Wait(t.Context(), 2); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Path("/a").Wait(ctx, 3); err == nil || !strings.Contains(err.Error(), "2 of 3") {
		t.Error(err)
	}
}

// BenchmarkCount is what the sink itself costs for a request, without a connection.
func BenchmarkCount(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			body := bytes.Repeat(load.Order(1, time.Now()), n)
			p := &Path{}
			b.ReportAllocs()
			for b.Loop() {
				p.count(body, 204)
			}
		})
	}
}
