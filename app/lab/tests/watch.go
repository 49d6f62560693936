package tests

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/pipelines"
)

// look is how often files are looked at.
const look = 250 * time.Millisecond

// stamp tells versions of a file apart.
type stamp struct {
	changed time.Time
	size    int64
}

// Watcher knows when the files of configurations change, with their tests, also by files that come and go.
type Watcher struct {
	paths []string
	clock event.Clock
	seen  map[string]stamp
}

// Watch returns a watcher of these files and folders. What it sees now is no change. A nil clock is the machine's.
func Watch(paths []string, clock event.Clock) *Watcher {
	if clock == nil {
		clock = event.SystemClock{}
	}
	w := &Watcher{paths: paths, clock: clock}
	w.seen = w.stamps()
	return w
}

// Wait returns nil after a change since the last Wait, or since the beginning, and the reason of ctx when it ends first. It
// waits until the files have been still for a moment, because editors write in steps.
func (w *Watcher) Wait(ctx context.Context) error {
	changed := false
	for {
		now := w.stamps()
		same := maps.Equal(now, w.seen)
		w.seen = now
		if same && changed {
			return nil
		}
		changed = changed || !same
		tick, release := w.clock.After(look)
		select {
		case <-tick:
			release()
		case <-ctx.Done():
			release()
			return context.Cause(ctx)
		}
	}
}

// stamps are those of all files there are now.
func (w *Watcher) stamps() map[string]stamp {
	stamps := map[string]stamp{}
	for _, path := range w.paths {
		for _, name := range append(pipelines.ConfigFiles(path), pipelines.TestFiles(path)...) {
			if info, err := os.Stat(name); err == nil {
				stamps[filepath.Clean(name)] = stamp{info.ModTime(), info.Size()}
			}
		}
	}
	return stamps
}

// IsTestFile says whether a path names a file of tests, which is read together with what it tests and not by itself.
func IsTestFile(path string) bool {
	return strings.HasSuffix(path, "_test.yaml") || strings.HasSuffix(path, "_test.yml")
}
