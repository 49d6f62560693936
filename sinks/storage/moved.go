package storage

import (
	"path/filepath"

	"github.com/millrace-run/millrace/event"
)

// Below puts every file below a folder: one of the working directory under its path from there, any other under outside/ and its
// absolute path. What the sink claims stays the path of the file's own settings, so that two sinks on one path are refused
// wherever they write. folder and working are absolute.
func Below(folder, working string) Option {
	return func(s *Sink) {
		name, err := filepath.Rel(working, s.place.root)
		if err != nil || !filepath.IsLocal(name) {
			name = filepath.Join("outside", s.place.root)
		}
		s.place.root = filepath.Join(folder, name)
	}
}

// File is the absolute path of the file that takes an event's line. It must not be called while Open, Deliver or Close runs.
func (s *Sink) File(ev *event.Event) (string, error) {
	name, err := s.place.of(ev)
	if err != nil {
		return "", err
	}
	if e := s.files[name]; e != nil {
		name = e.at // a number was added, because the path was taken
	}
	return s.absolute(name), nil
}
