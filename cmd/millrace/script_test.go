package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/millrace-run/millrace/internal/freeport"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"millrace": func() { os.Exit(realMain()) }})
}

// TestScripts runs command lines in processes of their own, each script in an empty folder. $FREE, $FREE2, … are ports where
// nothing listens.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			for i, port := range freePorts(t, 4) {
				e.Setenv(fmt.Sprint("FREE", []string{"", "2", "3", "4"}[i]), port)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fill": fill, "code": code, "ready": ready, "post": post, "get": get, "holds": holds, "listed": listed, "stands": stands,
		},
	})
}

// freePorts are ports that nobody listens on.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports, err := freeport.Find(n)
	if err != nil {
		t.Fatal(err)
	}
	for i, address := range ports {
		_, ports[i], _ = net.SplitHostPort(address)
	}
	return ports
}

// want checks how a command of a script was called.
func want(s *testscript.TestScript, ok, neg bool, usage string) {
	if neg || !ok {
		s.Fatalf("usage: %s", usage)
	}
}

// fill FILE… replaces $NAME in files by the variables of the script.
func fill(s *testscript.TestScript, neg bool, files []string) {
	want(s, len(files) > 0, neg, "fill FILE…")
	for _, f := range files {
		s.Check(os.WriteFile(s.MkAbs(f), []byte(os.Expand(s.ReadFile(f), s.Getenv)), 0o600))
	}
}

// code N COMMAND… runs a command that must end with exit code N.
func code(s *testscript.TestScript, neg bool, args []string) {
	want(s, len(args) > 1, neg, "code N COMMAND…")
	err := s.Exec(args[1], args[2:]...)
	got := 0
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		s.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		s.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// patience is far more than anything here takes on a busy machine.
const patience = 60 * time.Second

// until asks again and again, and fails with the last answer.
func until(s *testscript.TestScript, what string, ask func() error) {
	over := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-over:
			s.Fatalf("%s: %v", what, err)
		case <-again.C:
		}
	}
}

// ready URL waits until an instance is ready, by the address of its admin listener.
func ready(s *testscript.TestScript, neg bool, args []string) {
	want(s, len(args) == 1, neg, "ready URL")
	until(s, args[0], func() error {
		status, body, err := request("GET", args[0]+"/readyz?verbose", "")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

// post STATUS URL BODY posts JSON, must get STATUS, and shows the answer as stdout.
func post(s *testscript.TestScript, neg bool, args []string) {
	want(s, len(args) > 2, neg, "post STATUS URL BODY")
	answer(s, "POST", args[0], args[1], strings.Join(args[2:], " "))
}

// get STATUS URL must get STATUS, and shows the answer as stdout.
func get(s *testscript.TestScript, neg bool, args []string) {
	want(s, len(args) == 2, neg, "get STATUS URL")
	answer(s, "GET", args[0], args[1], "")
}

func answer(s *testscript.TestScript, method, status, url, body string) {
	got, text, err := request(method, url, body)
	s.Check(err)
	if strconv.Itoa(got) != status {
		s.Fatalf("%s %s: %d %s, want %s", method, url, got, text, status)
	}
	_, err = s.Stdout().Write([]byte(text))
	s.Check(err)
}

func request(method, url, body string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// holds FILE TEXT waits until a file holds a text.
func holds(s *testscript.TestScript, neg bool, args []string) {
	want(s, len(args) == 2, neg, "holds FILE TEXT")
	until(s, args[0], func() error {
		b, err := os.ReadFile(s.MkAbs(args[0]))
		if err == nil && !strings.Contains(string(b), args[1]) {
			err = fmt.Errorf("no %q in %q", args[1], b)
		}
		return err
	})
}

// listed TEXT waits until the dead letters of the instance at $MILLRACE_ADMIN hold a text.
func listed(s *testscript.TestScript, neg bool, args []string) {
	want(s, len(args) == 1, neg, "listed TEXT")
	says(s, s.Getenv("MILLRACE_ADMIN"), "/api/v1/dead-letters", args[0])
}

// stands TEXT waits until the subscriptions of the instance at port $FREE2 hold a text.
func stands(s *testscript.TestScript, neg bool, args []string) {
	want(s, len(args) == 1, neg, "stands TEXT")
	says(s, "127.0.0.1:"+s.Getenv("FREE2"), "/api/v1/subscriptions", args[0])
}

func says(s *testscript.TestScript, address, path, text string) {
	until(s, path, func() error {
		_, body, err := request("GET", "http://"+address+path, "")
		if err == nil && !strings.Contains(body, text) {
			err = fmt.Errorf("no %q in %s", text, body)
		}
		return err
	})
}
