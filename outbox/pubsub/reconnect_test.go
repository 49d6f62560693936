package pubsub_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/outbox/pubsub"
)

// A child process publishes and consumes as fast as it can and says what it does, a line for each thing:
//
//	try UUID...      it is about to publish these in one call
//	ok UUID...       the call returned nil
//	got GROUP UUID   a subscription of the group is done with the message; it is answered after this
//	fault TEXT       something that must not happen
//
// TestReconnect kills it again and again at a random line, and at the end compares all that the children said with all that
// they and the outbox handed out.

const (
	lives      = 8
	publishers = 4
	maxLines   = 900 // that a child may say before it is killed
)

var groups = []string{"a", "b"}

// child is the work. It ends only when it is killed or something is wrong.
func child(path string) int {
	var mu sync.Mutex // guards that lines are whole
	say := func(words ...string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = os.Stdout.WriteString(strings.Join(words, " ") + "\n")
	}
	err := work(path, os.Getenv("PUBSUB_LIFE"), say)
	say("fault", err.Error())
	return 1
}

func work(path, life string, say func(...string)) error {
	box, err := outbox.Open(context.Background(), outbox.Options{Path: path})
	if err != nil {
		return err
	}
	p, err := pubsub.New(context.Background(), box, pubsub.Config{})
	if err != nil {
		return err
	}
	failed, calls := make(chan error), make(chan struct{})
	for _, group := range groups {
		s, err := p.Subscriber(group)
		if err != nil {
			return err
		}
		for range 2 { // which compete
			messages, err := s.Subscribe(context.Background(), "t")
			if err != nil {
				return err
			}
			go func() { failed <- consume(messages, calls, group, say) }()
		}
	}
	for i := range publishers {
		go func() { failed <- produce(p.Publisher(), calls, fmt.Sprintf("%s.%d", life, i), say) }()
	}
	return <-failed
}

// produce publishes calls of one to three messages. An UUID is life.publisher.number, and numbers are as wide as each other.
func produce(p *pubsub.Publisher, calls chan<- struct{}, name string, say func(...string)) error {
	for n := 0; ; {
		var messages []*message.Message
		for range 1 + rand.IntN(3) {
			messages = append(messages, newMessage(fmt.Sprintf("%s.%06d", name, n)))
			n++
		}
		ids := message.Messages(messages).IDs()
		say(append([]string{"try"}, ids...)...)
		if err := p.Publish("t", messages...); err != nil {
			return err
		}
		say(append([]string{"ok"}, ids...)...)
		select {
		case calls <- struct{}{}:
		default:
		}
	}
}

// consume works on some messages for as long as a few calls of Publish take, so that most kills find one in hand: if it were
// settled before it is answered, the commits of those calls would have written that.
func consume(messages <-chan *message.Message, calls <-chan struct{}, group string, say func(...string)) error {
	for m := range messages {
		if !m.Equals(newMessage(m.UUID)) {
			say("fault", "message", m.UUID, "has changed")
		}
		if rand.IntN(8) == 0 {
			for range 4 {
				<-calls
			}
		}
		say("got", group, m.UUID)
		if rand.IntN(16) == 0 {
			m.Nack()
		} else {
			m.Ack()
		}
	}
	return fmt.Errorf("the channel of %s was closed", group)
}

func newMessage(id string) *message.Message {
	m := message.NewMessage(id, []byte(strings.Repeat(id, 20)))
	m.Metadata.Set("Of-Message", id)
	return m
}

func TestReconnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	h := newHistory()
	for life := range lives {
		lines := random.IntN(maxLines)
		if life == 0 {
			lines = maxLines // or there might be nothing at all
		}
		h.live(t, path, fmt.Sprintf("%02d", life), lines)
	}
	h.drain(t, path)
	h.check(t)
}

// history is what the children said.
type history struct {
	tries     [][]string
	published map[string]bool
	got       map[string][]string // by group, in the order in which they were handed out
	first     map[string][]string // the same without repeats
	seen      map[string]bool     // "group UUID"
}

func newHistory() *history {
	return &history{published: map[string]bool{}, got: map[string][]string{}, first: map[string][]string{}, seen: map[string]bool{}}
}

// live runs a child until it has said a number of lines, and kills it.
func (h *history) live(t *testing.T, path, life string, lines int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), "PUBSUB_CHILD="+path, "PUBSUB_LIFE="+life,
		"GORACE=atexit_sleep_ms=0") // the race detector would sleep a second at each exit
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	if lines == 0 {
		kill()
	}
	n := 0
	for said := bufio.NewScanner(out); said.Scan(); { // what was said before the end is still in the pipe
		h.hear(t, said.Text())
		if n++; n == lines {
			kill()
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("child %s ended by itself: %v", life, err)
	}
	for _, group := range groups {
		inOrder(t, "life "+life+" of "+group, slices.Compact(h.got[group])) // a Nack gives the same message again
		h.got[group] = nil
	}
}

func (h *history) hear(t *testing.T, line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "try":
		h.tries = append(h.tries, words[1:])
	case "ok":
		for _, id := range words[1:] {
			h.published[id] = true
		}
	case "got":
		h.receive(words[1], words[2])
	default:
		t.Error(line)
	}
}

func (h *history) receive(group, id string) {
	h.got[group] = append(h.got[group], id)
	if !h.seen[group+" "+id] {
		h.seen[group+" "+id] = true
		h.first[group] = append(h.first[group], id)
	}
}

// drain opens the outbox in this process and takes what is left: up to a message that is published now.
func (h *history) drain(t *testing.T, path string) {
	t.Helper()
	p := reopened(t, path, pubsub.Config{})
	var channels []<-chan *message.Message
	for _, group := range groups {
		channels = append(channels, subscribed(t, p, group, "t"))
	}
	publish(t, p, "t", "end")
	for i, group := range groups {
		for {
			m := receive(t, channels[i])
			m.Ack()
			if m.UUID == "end" {
				break
			}
			h.receive(group, m.UUID)
		}
		inOrder(t, "the end of "+group, h.got[group])
	}
}

// check compares what was published with what the groups got.
func (h *history) check(t *testing.T) {
	t.Helper()
	t.Logf("%d messages confirmed, %d tried calls", len(h.published), len(h.tries))
	tried := map[string]bool{}
	for _, group := range groups {
		for id := range h.published {
			if !h.seen[group+" "+id] {
				t.Errorf("group %s did not get %s, whose Publish had returned", group, id)
			}
		}
		for _, ids := range h.tries {
			n := 0
			for _, id := range ids {
				tried[id] = true
				if h.seen[group+" "+id] {
					n++
				}
			}
			if n != 0 && n != len(ids) {
				t.Errorf("group %s got %d of the messages of one call, %v", group, n, ids)
			}
		}
		for _, id := range h.first[group] {
			if !tried[id] {
				t.Errorf("group %s got %s, which nobody published", group, id)
			}
		}
		inOrder(t, "first deliveries to "+group, h.first[group])
	}
	if len(h.published) < 50 {
		t.Errorf("only %d messages were confirmed: that proves nothing", len(h.published))
	}
}

// inOrder says whether the messages of each publisher are in the order in which it published them, none twice.
func inOrder(t *testing.T, what string, ids []string) {
	t.Helper()
	last := map[string]string{}
	for _, id := range ids {
		publisher := id[:strings.LastIndex(id, ".")]
		if id <= last[publisher] {
			t.Errorf("%s: %s came after %s", what, id, last[publisher])
		}
		last[publisher] = id
	}
}
