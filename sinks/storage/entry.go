package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"syscall"
)

// tailSize is how many bytes before the settled length the state has a hash of.
const tailSize = 256

// mark is what the state holds of a file. Its key is the absolute path that the template gave.
type mark struct {
	Root   string `json:"root"` // absolute
	Name   string `json:"name"` // the file's own name, which has a number if the path was taken
	Dev    uint64 `json:"dev"`
	Ino    uint64 `json:"ino"`
	Length int64  `json:"length"`          // settled: what is before it is complete, what is behind it is nobody's
	Tail   string `json:"tail"`            // hash of the last bytes before Length
	Form   string `json:"form,omitempty"`  // id of the form in which it is written
	Began  int64  `json:"began,omitempty"` // in milliseconds of Unix time, as is Wrote
	Wrote  int64  `json:"wrote,omitempty"`
}

// entry is a file that the sink knows.
type entry struct {
	mark
	path  string // that the template gave, relative to the root
	at    string // where the file is, relative to the root: path, or path with a number
	file  file   // nil while it is closed
	tail  []byte // the last bytes before Length, while it is open
	dirty bool   // there may be bytes behind Length that the sink wrote and nobody settled
	lost  string // why the file is not the sink's any more; empty while it is
	used  uint64 // the turn in which it was used last
	early bool   // it is to be closed although it is neither full nor old, because there are too many
}

// newEntry returns the entry of a file that stands in the folder of its path.
func newEntry(name string, m mark) *entry {
	return &entry{mark: m, path: name, at: path.Join(path.Dir(name), m.Name)}
}

func (e *entry) encode() []byte {
	b, _ := json.Marshal(e.mark) // a struct of strings and numbers always encodes
	return b
}

func decodeMark(b []byte) (mark, error) {
	var m mark
	if err := json.Unmarshal(b, &m); err != nil {
		return mark{}, err
	}
	if m.Name == "" || m.Name != path.Base(m.Name) || !filepath.IsAbs(m.Root) || m.Length < 0 {
		return mark{}, errors.New("it is not complete")
	}
	return m, nil
}

// is says whether a file can be the marked one. A device's number may change when the machine starts again, so where there are
// bytes to compare their hash speaks for it.
func (m *mark) is(in info) bool {
	return in.regular && in.ino == m.Ino && (in.dev == m.Dev || m.Length > 0)
}

func hashOf(tail []byte) string {
	sum := sha256.Sum256(tail)
	return hex.EncodeToString(sum[:16])
}

// grew notes that lines were added and synced.
func (e *entry) grew(lines []byte) {
	e.Length += int64(len(lines))
	e.tail = lastBytes(append(e.tail, lastBytes(lines)...))
	e.Tail = hashOf(e.tail)
}

func lastBytes(b []byte) []byte { return b[max(0, len(b)-tailSize):] }

// takeIn makes what somebody added to the open file part of it. Behind an array of JSON that would be none.
func (e *entry) takeIn() error {
	if e.Form == formatJSON {
		return e.lose("somebody added to it")
	}
	if err := e.file.Sync(); err != nil {
		return err
	}
	in, err := e.file.info()
	if err != nil {
		return err
	}
	tail, err := readTail(e.file, in.size)
	if err != nil {
		return err
	}
	e.Length, e.tail, e.Tail = in.size, tail, hashOf(tail)
	return nil
}

func readTail(f file, length int64) ([]byte, error) {
	tail := make([]byte, min(length, tailSize), 2*tailSize)
	_, err := f.ReadAt(tail, length-int64(len(tail)))
	if len(tail) == 0 {
		err = nil
	}
	return tail, err
}

// cut removes what is behind the settled length. It never makes a file longer.
func (e *entry) cut() error {
	in, err := e.file.info()
	if err == nil && in.size > e.Length {
		err = e.file.Truncate(e.Length)
	}
	if err == nil {
		err = e.file.Sync()
	}
	if err == nil {
		e.dirty = false
	}
	return err
}

// examine looks whether the entry's file is still there and still the sink's, opens it if it is closed and cuts it if it is
// dirty. It sets lost if the file is not the sink's any more, and closes it. grown says that somebody else added to it. An error
// says that this could not be found out, or not be cut.
func (e *entry) examine(v volume) (grown bool, err error) {
	in, err := v.stat(e.at)
	switch {
	case isMissing(err):
		return false, e.lose("it is gone")
	case err != nil:
		return false, err
	case !e.is(in):
		return false, e.lose("there is another file in its place")
	case in.size < e.Length:
		return false, e.lose(fmt.Sprintf("it has %d bytes and had %d", in.size, e.Length))
	}
	if err := e.open(v); err != nil || e.lost != "" {
		return false, err
	}
	if e.dirty {
		return false, e.cut()
	}
	return in.size > e.Length, nil
}

// altered says why a file is not any more what it was when it was closed; empty if it is. It leaves it open.
func (e *entry) altered(v volume) (why string, err error) {
	grown, err := e.examine(v)
	if err == nil && grown {
		return "somebody added to it", nil
	}
	return e.lost, err
}

func (e *entry) open(v volume) error {
	if e.file != nil {
		return nil
	}
	f, err := v.open(e.at)
	if err != nil {
		return err
	}
	in, err := f.info()
	if err == nil && !e.is(in) {
		err = errors.New("somebody replaced the file while it was opened")
	}
	var tail []byte
	if err == nil {
		tail, err = readTail(f, e.Length)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	e.file, e.tail = f, tail
	if hashOf(tail) != e.Tail {
		return e.lose("its last lines are not those that were written")
	}
	return nil
}

// lose gives the file up and always returns nil: that a file is lost is no failure, a new one is begun.
func (e *entry) lose(why string) error {
	e.lost = why
	e.shut()
	return nil
}

// shut closes the file. There is nothing in it that a failing close could lose: what counts was synced.
func (e *entry) shut() {
	if e.file != nil {
		_ = e.file.Close()
	}
	e.file, e.tail = nil, nil
}

// isMissing says that a path leads nowhere, because its end or a folder on the way is not there.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
