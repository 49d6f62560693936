package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// exitDataError is the exit code of a command that refuses the event itself (EX_DATAERR of sysexits.h).
const exitDataError = 65

// termGrace is how long a command has after SIGTERM before it is killed.
const termGrace = 5 * time.Second

// maxWord is how much of what a command said becomes the reason of a failure, in bytes from its end.
const maxWord = 1 << 10

// Exec runs a command of the shell for each event. It gets the data on standard input, the attributes as CE_ID, CE_TYPE and so on, and
// MILLRACE_ATTEMPT and MILLRACE_KEY. Exit code 0 says done, 65 never again, any other again later; the last words on stderr are the reason.
func Exec(command string, out, errs io.Writer) Work {
	return func(ctx context.Context, j Job) error {
		words := &lastWords{to: errs}
		c := shell(ctx, command)
		c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(j.Event.Data), out, words
		c.Env = append(os.Environ(), environment(&j)...)
		return ended(c.Run(), words)
	}
}

// shell is a command that ends with ctx: first it is asked, then it is made to.
func shell(ctx context.Context, command string) *exec.Cmd {
	c := exec.CommandContext(ctx, "sh", "-c", command)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us: what is in work is finished
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = termGrace
	return c
}

// ended makes a verdict of how a command ended.
func ended(err error, words *lastWords) error {
	if err == nil {
		return nil
	}
	if text := codec.Legible(strings.TrimSpace(string(words.last))); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitDataError {
		return event.Permanent(err)
	}
	return err
}

// environment is an event for a command. Names of extensions are letters and digits, so they are names of variables too.
func environment(j *Job) []string {
	e := &j.Event
	env := []string{
		"CE_ID=" + e.ID, "CE_SOURCE=" + e.Source, "CE_TYPE=" + e.Type, "CE_SUBJECT=" + e.Subject, "CE_TIME=" + e.Time,
		"CE_DATACONTENTTYPE=" + e.DataContentType, "CE_DATASCHEMA=" + e.DataSchema,
		"MILLRACE_ATTEMPT=" + strconv.Itoa(j.Attempt), "MILLRACE_KEY=" + j.Key,
	}
	for _, x := range e.Extensions {
		env = append(env, "CE_"+strings.ToUpper(x.Name)+"="+x.Text)
	}
	return env
}

// lastWords hands on what a command says and keeps the end of it.
type lastWords struct {
	to   io.Writer
	last []byte
}

// Write keeps and hands on.
func (t *lastWords) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if n := len(t.last) - maxWord; n > 0 {
		t.last = append(t.last[:0], t.last[n:]...)
	}
	return t.to.Write(p)
}

// Lines is a command of the shell that stays: it gets each event as a CloudEvent in JSON on a line of standard input and answers
// with a line on standard output, before it gets the next one. An answer is an object; {"error": "why"} is a failure, with
// "reject": true never again, with "delay": "30s" not before that; anything else says done. When the command ends, or its event is
// taken back, it is started anew with the next event. Close it.
type Lines struct {
	command string
	errs    io.Writer
	process *lineProcess
}

// NewLines starts nothing yet.
func NewLines(command string, errs io.Writer) *Lines { return &Lines{command: command, errs: errs} }

type lineProcess struct {
	cmd   *exec.Cmd
	end   context.CancelFunc
	in    io.WriteCloser
	out   *bufio.Reader
	words *lastWords
}

// Do is a Work. It is not concurrent.
func (l *Lines) Do(ctx context.Context, j Job) error {
	if l.process == nil {
		p, err := startLines(context.WithoutCancel(ctx), l.command, l.errs) // it outlives the event that it is started for
		if err != nil {
			return err
		}
		l.process = p
	}
	p := l.process
	release := context.AfterFunc(ctx, p.end)
	answer, err := p.exchange(&j.Event)
	if !release() || err != nil {
		l.process = nil
		p.end()
		return errors.Join(context.Cause(ctx), ended(errors.Join(err, p.cmd.Wait()), p.words))
	}
	return answer.verdict()
}

// Close ends the command: its standard input ends, and it has some seconds to do so itself.
func (l *Lines) Close() error {
	if l.process == nil {
		return nil
	}
	p := l.process
	l.process = nil
	_ = p.in.Close() // it may be gone already; Wait tells
	timer := time.AfterFunc(termGrace, p.end)
	defer timer.Stop()
	defer p.end()
	return p.cmd.Wait()
}

func startLines(ctx context.Context, command string, errs io.Writer) (*lineProcess, error) {
	ctx, end := context.WithCancel(ctx)
	p := &lineProcess{cmd: shell(ctx, command), end: end, words: &lastWords{to: errs}}
	p.cmd.Stderr = p.words
	in, err := p.cmd.StdinPipe()
	if err != nil {
		end()
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("start the command: %w", err)
	}
	p.in, p.out = in, bufio.NewReaderSize(out, 64<<10)
	return p, nil
}

// lineAnswer is what a command says about an event.
type lineAnswer struct {
	Error  string `json:"error"`
	Reject bool   `json:"reject"`
	Delay  string `json:"delay"`
}

func (p *lineProcess) exchange(e *event.Event) (a lineAnswer, err error) {
	if _, err = p.in.Write(append(codec.EncodeJSON(nil, e), '\n')); err != nil {
		return a, fmt.Errorf("give the command its event: %w", err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("the command ended without an answer: %w", err)
	}
	if json.Unmarshal(line, &a) != nil {
		return a, fmt.Errorf("the command answered %q, which is no object in JSON", clipped(line))
	}
	return a, nil
}

func clipped(line []byte) string {
	const most = 100
	text := codec.Legible(strings.TrimSpace(string(line)))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

func (a *lineAnswer) verdict() error {
	if a.Error == "" && !a.Reject {
		return nil
	}
	err := errors.New(codec.Legible(a.Error))
	delay, bad := time.ParseDuration(a.Delay)
	switch {
	case a.Reject:
		return event.Permanent(err)
	case a.Delay != "" && bad == nil && delay >= 0:
		return event.RetryAfter(err, delay)
	}
	return err
}
