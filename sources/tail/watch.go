package tail

import (
	"errors"
	"log/slog"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// watch gathers what happens in folders. Without the system's help, such as at the limit of inotify, it hears nothing: the
// files are looked at in turn anyway.
type watch struct {
	watcher *fsnotify.Watcher // nil: there is no help
	log     *slog.Logger
	folders map[string]bool // those that are watched; used by one goroutine
	told    bool
	done    chan struct{}
	signal  chan struct{} // receives, at most one, when something happened

	mu      sync.Mutex
	written map[string]bool // paths that were written to
	other   map[string]bool // paths that came or went
	missed  bool            // more happened than could be noted
}

// noted is how many paths are kept apart.
const noted = 4096

func newWatch(log *slog.Logger) *watch {
	w := &watch{
		log: log, folders: map[string]bool{}, signal: make(chan struct{}, 1), written: map[string]bool{}, other: map[string]bool{},
	}
	var err error
	if w.watcher, err = fsnotify.NewWatcher(); err != nil {
		w.watcher = nil
		w.hint("", err)
		return w
	}
	w.done = make(chan struct{})
	go w.gather()
	return w
}

// follow makes the watched folders these.
func (w *watch) follow(folders []string) {
	if w.watcher == nil {
		return
	}
	wanted := make(map[string]bool, len(folders))
	for _, f := range folders {
		wanted[f] = true
		if !w.folders[f] {
			if err := w.watcher.Add(f); err != nil {
				w.hint(f, err)
				continue
			}
			w.folders[f] = true
		}
	}
	for f := range w.folders {
		if !wanted[f] {
			_ = w.watcher.Remove(f) // it may be gone already
			delete(w.folders, f)
		}
	}
}

// hint tells once why files are only looked at in turn.
func (w *watch) hint(folder string, err error) {
	if w.told || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EACCES) {
		return
	}
	w.told = true
	args := []any{"folder", folder, "err", err}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		args = append(args, "hint", "raise fs.inotify.max_user_watches")
	case errors.Is(err, syscall.EMFILE):
		args = append(args, "hint", "raise fs.inotify.max_user_instances, or the limit of open files")
	}
	w.log.Warn("changes of files are not announced, they are looked for every second instead", args...)
}

func (w *watch) gather() {
	defer close(w.done)
	for {
		select {
		case x, ok := <-w.watcher.Events:
			if !ok {
				return
			}
			w.note(x)
		case _, ok := <-w.watcher.Errors:
			if !ok {
				return
			}
			w.mu.Lock()
			w.missed = true // such as an overflow: what happened is not known
			w.mu.Unlock()
		}
		select {
		case w.signal <- struct{}{}:
		default:
		}
	}
}

func (w *watch) note(x fsnotify.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.written)+len(w.other) >= noted {
		w.missed = true
		return
	}
	switch {
	case x.Op == fsnotify.Chmod:
	case x.Op == fsnotify.Write:
		w.written[x.Name] = true
	default:
		w.other[x.Name] = true
	}
}

// tell hands an engine what happened.
func (w *watch) tell(e *engine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.hurry = e.hurry || w.missed
	for p := range w.written {
		e.touch(p, true)
	}
	for p := range w.other {
		e.touch(p, false)
	}
	clear(w.written)
	clear(w.other)
	w.missed = false
}

// close ends the watch and waits for its goroutine.
func (w *watch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close()
		<-w.done
	}
}
