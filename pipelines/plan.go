// Package pipelines turns YAML into a checked Plan: every fault of a file at once, each with its place, and every default
// filled in. It is the only home of YAML; components reach it as values of a table and never see a file.
package pipelines

import (
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Plan is everything that a file (or a folder of files) asks for, checked and complete: the router and the app take it as it is.
type Plan struct {
	HTTP            Listener
	Admin           Listener
	Outbox          Outbox
	ShutdownTimeout time.Duration
	Pipelines       []*Pipeline // in the order of the file; of several files, by file name
	Warnings        []Diagnostic
	// Unset names the variables that were not set, in order. It is empty unless Options.AllowUnset let them pass; a plan that
	// names any holds stand-ins and missing parts: it is good for checking and must not be run.
	Unset []string
	// Hide replaces what must not be shown in a text: secrets, and what came from the environment or from other files.
	Hide func(text string) string
}

// Listener is an address to listen on.
type Listener struct {
	Listen string `yaml:"listen" doc:"The address, host:port."`
}

// Outbox is the engine that keeps events: exactly one of SQLite and Memory is set.
type Outbox struct {
	SQLite *SQLite
	Memory *Memory
}

// SQLite is the embedded engine. Sizes are in bytes.
type SQLite struct {
	Path    string `yaml:"path" doc:"The database file; its folder is made when it is missing."`
	MaxSize int64  `yaml:"max_size,size,min=16MiB" doc:"The most that the log may hold; sources are refused when nine tenths of it are in use and there is no history left to give."`
	Reserve int64  `yaml:"reserve,size,min=1MiB" doc:"Disk space kept aside, so that deliveries can be settled when the disk is full."`

	Retention Retention `yaml:"retention" doc:"How long history is kept: events that every sink is done with."`
}

// Retention bounds history. Zero is no bound.
type Retention struct {
	Age  time.Duration `yaml:"age" doc:"History goes when it was received longer ago; 0s: at no age."`
	Size int64         `yaml:"size,size" doc:"How much history there may be, at most nine tenths of max_size; beyond it the oldest goes; 0: as much as max_size leaves."`
}

// Memory is the engine that keeps events in memory only.
type Memory struct{}

// Pipeline is one named flow from a source through stages to sinks.
type Pipeline struct {
	Name        string
	Description string
	Place       Place
	Source      Component
	Stages      []Stage
	Sinks       []*Sink
	PushDown    int  // how many of the stages run before an event is stored
	Rereadable  bool // the source has again what it delivered, until its position is committed
	Strict      bool // a missing field is an error
	Delivery    Delivery
	Unmatched   Unmatched
	Dedupe      *Dedupe     // nil takes every event
	Priority    *rules.Expr // from 0 to 9; nil gives every event 4
	Tests       []*Test
}

// Unmatched is what becomes of an event that no sink wants. The zero value drops it.
type Unmatched struct {
	Word string `yaml:"-"`                                                      // UnmatchedDrop, UnmatchedDeadLetter, or empty
	Sink string `yaml:"sink" doc:"The sink that gets what no other one wants."` // empty: none does
}

// The words of unmatched.
const (
	UnmatchedDrop       = "drop"
	UnmatchedDeadLetter = "dead_letter"
)

// Delivery is what holds for the accepted events of a pipeline. The zero value is AtLeastOnce.
type Delivery string

// The values of delivery.
const (
	AtLeastOnce Delivery = "at_least_once" // they are in the outbox until they are settled
	AtMostOnce  Delivery = "at_most_once"  // they are in memory only: what is pending when the process ends is lost
	ExactlyOnce Delivery = "exactly_once"  // as AtLeastOnce; source and sinks are checked to neither lose nor double an event
)

// Once is whether a component keeps exactly_once: a source that takes what it reads into the log once, a sink that takes what it gets once,
// whatever ends in between.
type Once uint8

// The values of Once.
const (
	NeverOnce  Once = iota
	DedupeOnce      // a source whose sender repeats what was not confirmed: with dedupe
	AlwaysOnce
)

// Forgetting is what a source implements that can be read again and yet does without its position at the start of a process.
// Forgets is called once, before the first use, when the pipeline keeps positions in memory only; its errors carry keys as those
// of Build do. A type that is Rereadable and not Forgetting is refused in such a pipeline.
type Forgetting interface{ Forgets() error }

// Dedupe leaves out events that came before.
type Dedupe struct {
	Key     *rules.Expr   `yaml:"key" doc:"What is the same in duplicates; by default source and id."`
	Window  time.Duration `yaml:"window,min=1s,max=30d" doc:"How long a key is remembered."`
	MaxKeys int           `yaml:"max_keys,min=1,max=100000000" doc:"How many keys are remembered; beyond that the oldest is forgotten early."`
}

// Component is a built source or sink: Value is what its row in the table returned.
type Component struct {
	Type  string
	Value any
	Place Place
	Unset bool // a setting of it names a variable that is not set, see Plan.Unset
}

// Stage is one pure step. Name is its type, with a number from the second of a type on, unless the file names it.
type Stage struct {
	Name     string
	Type     string
	Op       rules.Op
	Match    *rules.Expr // of a match stage, what it keeps
	DataOnly bool        // it reads and changes nothing but the data and its content type
	Identity bool        // it may change the id or the source
	OnError  OnError
	Place    Place
}

// OnError is what becomes of an event at which a stage fails.
type OnError string

// The values of on_error.
const (
	OnErrorDeadLetter OnError = "dead_letter"
	OnErrorDrop       OnError = "drop"
	OnErrorPass       OnError = "pass" // as if the stage were not there
)

// Sink is one destination with its subscription.
type Sink struct {
	Name string
	Component
	When        *rules.Expr // nil takes every event
	Match       bool        // When was written as match
	Retry       Retry
	Timeout     time.Duration // of one attempt
	Concurrency int
	Breaker     *Breaker // nil is off
	Batch       Batch
	Serial      bool          // one writer, offset order; Concurrency does not apply
	Pull        bool          // workers come for the events: there is no attempt of the sink's own, and nothing that it could be late with
	Delay       *Delay        // nil delivers at once
	Expire      time.Duration // counted from when an event was received; 0 is never
	Rate        *Rate         // nil is no bound
	Order       *Order        // nil keeps none; a serial sink needs none
	From        event.Start   // where the subscription of a new sink begins
	MaxPending  *MaxPending   // nil is no bound
	Overflow    Overflow
	// Verdict is what an answer with a status means, nil for success. It is nil for a type whose answers have no statuses.
	Verdict func(status int) error
}

// Order is the order that the deliveries of a sink keep: that of all events, or of those with one key.
type Order struct {
	Key     *rules.Expr // nil is all: one after the other
	Hold    bool        // a dead letter keeps its key until somebody drops or redrives it
	MaxHeld int         // how many events may wait in rows for earlier ones of their key
}

// Retry is when a failed attempt is repeated. The delay before attempt n+1 is min(Max, Initial·Factor^(n-1)), of which a random
// part between half and all is taken; or it is the n-th of Schedule, as it stands. A plan has Initial, Max and MaxAttempts
// beside a Schedule too: its first, its longest, and one more than it has.
type Retry struct {
	Initial     time.Duration `yaml:"initial,min=1ms" doc:"The delay before the second attempt."`
	Factor      float64       `yaml:"factor,min=1,max=100" doc:"By how much each delay is longer than the one before."`
	Max         time.Duration `yaml:"max,min=1ms" doc:"The longest delay."`
	MaxAttempts int           `yaml:"max_attempts,min=1" doc:"Failures that count, after which an event is a dead letter."`
	MaxAge      time.Duration `yaml:"max_age,min=1ms" doc:"How long after its first attempt an event becomes a dead letter; with a schedule, by default, so much longer than that takes."`

	Schedule []time.Duration `yaml:"schedule,min=1ms,max=365d" doc:"The delays before the second, third and further attempts, in place of initial, factor, max and max_attempts: after a failure that counts behind the last of them an event is a dead letter."`
	On       []int           `yaml:"on,min=300,max=599" doc:"Statuses that are tried again, and count, though they would make a dead letter at once or pause the subscription."`
	Never    []int           `yaml:"never,min=300,max=599" doc:"Statuses that make a dead letter at once, though they would be tried again."`
}

// Breaker stops attempts while a sink is down.
type Breaker struct {
	After    int           `yaml:"after,min=1" doc:"How many failures in a row, of different events, mean that the sink is down."`
	ProbeMax time.Duration `yaml:"probe_max,min=1ms" doc:"The longest wait between two probes of a sink that is down."`
}

// Batch is the most that one call of Deliver gets, and how long the first event of a call that is not full waits for others.
type Batch struct {
	Count int           `yaml:"count,min=1,max=2048" doc:"The most events of one delivery; more than one is sent in the form of a batch."`
	Bytes int64         `yaml:"bytes,size,min=1KiB,max=64MiB" doc:"The most that their attributes and data may have; one event always fits."`
	Wait  time.Duration `yaml:"wait,max=1h" doc:"How long the first event of a batch that is not full waits for others."`
}

// Batching is what a component implements whose type takes the key batch. Batched is called once, before the first use, when a
// delivery may carry more than one event; its errors carry keys as those of Build do.
type Batching interface{ Batched() error }

// Guarded is what a component implements to which others connect on http.listen. One that is Open must not be reached from other
// machines.
type Guarded interface{ Open() bool }

// Gathering is what a serial component implements whose deliveries are as large, and wait as long, as its own settings say. It
// settles each delivery as a whole: apart from events that are Permanent, all succeed or all are to come again.
type Gathering interface {
	Gather() (bytes int64, wait time.Duration)
}

// Types are the components that a file may name.
type Types struct {
	Sources []Type
	Sinks   []Type
}

// Type is one component type: a row of the table.
type Type struct {
	Name string
	Doc  string // one line
	// Config is a pointer to its settings with every default; the loader reads its fields by reflection and does not change it.
	Config any
	// Build decodes the settings and returns the component. It opens nothing.
	Build func(decode Decode) (any, error)

	// Once is whether it keeps exactly_once, and Twice why not, in words that complete "a source of type x".
	Once  Once
	Twice string

	// For sources: what it delivered can be had from it again, until its position is committed.
	Rereadable bool

	// For sinks: the defaults that differ by type.
	Concurrency int
	Serial      bool
	Pull        bool // see Sink.Pull; its components may be Guarded
	Batch       Batch
	Batches     bool                   // it takes the key batch; its components are Batching
	Verdict     func(status int) error // see Sink.Verdict
}

// Decode fills the struct that into points to, strictly, from the component's place in the file. Fields carry a `yaml` tag
// (name, then options) and a `doc` tag. The options: required; size (an int64 of bytes, such as 10MiB); secret (never shown);
// intake (its expressions see the request too); digest (they see all events of a delivery too, as events); min=, max= and oneof=a|b (what is accepted). See Describe for the field types.
//
// It returns an error only when into is not a pointer to a struct: faults of the file are collected by the loader, so that the
// checks of Build run too and all faults are reported at once. A field with a fault keeps its default.
type Decode func(into any) error

// Place is a position in a file. Line and Col count from 1.
type Place struct {
	File string
	Line int
	Col  int
}

// Diagnostic is one fault or warning of a file.
type Diagnostic struct {
	Place   Place
	Warning bool
	Code    string // such as E0102
	Problem string // one sentence
	Hint    string // what to do; may be empty
	Source  string // the line of the file
	Width   int    // how many columns the caret marks, at least 1
}
