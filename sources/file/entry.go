package file

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec/records"
)

// identity is what a file is known by. A file that is written to has another size or time, and is another one for the source.
type identity struct {
	Ino   uint64 `json:"ino"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // nanoseconds since 1970
}

// info is what is seen of a file at a path.
type info struct {
	identity
	dev   uint64
	ctime int64
}

var errNotRegular = errors.New("it is not a regular file")

func infoOf(fi os.FileInfo) (info, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() {
		return info{}, errNotRegular
	}
	return info{
		identity: identity{Ino: st.Ino, Size: fi.Size(), MTime: fi.ModTime().UnixNano()},
		dev:      uint64(st.Dev), //nolint:unconvert // it is signed on some systems
		ctime:    changedAt(st),
	}, nil
}

// phase is how far the source is with a file.
type phase string

const (
	reading phase = "reading" // up to the position
	done    phase = "done"    // to its end
	failed  phase = "failed"  // as far as it could be read
)

// mark is what the state holds of a file. Its key is Seed.
type mark struct {
	identity
	Seed  string           `json:"seed"` // what the ids of its events are made of, 32 hexadecimal digits
	Path  string           `json:"path"` // where it was read
	Dev   uint64           `json:"dev"`
	CTime int64            `json:"ctime"`
	Head  string           `json:"head"` // hash of its first bytes
	Phase phase            `json:"phase"`
	At    records.Position `json:"at"`
	Owed  bool             `json:"owed,omitempty"` // it was read while then or failed named something to do
}

// entry is a file that the source knows.
type entry struct {
	mark
	round int       // in which it was seen last
	gone  time.Time // since when it is not seen
}

// headSize is how many bytes are compared when a file has the identity of another, which may be another file all the same: times
// can be set.
const headSize = 4 << 10

// headOf is the hash of the first bytes of a file.
func headOf(f io.ReaderAt) (string, error) {
	b := make([]byte, headSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	sum := sha256.Sum256(b[:n])
	return hex.EncodeToString(sum[:16]), nil
}

// newEntry is the entry of a file that is read for the first time.
func newEntry(path string, in info, head string) *entry {
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, []int64{int64(in.dev), int64(in.Ino), in.Size, in.MTime}) //nolint:gosec // only hashed
	_, _ = io.WriteString(h, head+path)
	return &entry{mark: mark{identity: in.identity, Seed: hex.EncodeToString(h.Sum(nil)[:16]), Path: path, Dev: in.dev, CTime: in.ctime,
		Head: head, Phase: reading}}
}

func (m *mark) encode() []byte {
	b, _ := json.Marshal(m) // a struct of strings and numbers always encodes
	return b
}

func decodeMark(key string, b []byte) (*entry, error) {
	var e entry
	if err := json.Unmarshal(b, &e.mark); err != nil {
		return nil, err
	}
	if seed, err := hex.DecodeString(key); err != nil || e.Seed != key || len(seed) != 16 {
		return nil, fmt.Errorf("the state of the file %q is not what this source writes", key)
	}
	return &e, nil
}

// naming returns a function that gives event i of a batch its id: the hash of the file's seed and the number of the record.
func (m *mark) naming(first int64) func(int, *event.Event) {
	var seed [24]byte
	_, _ = hex.Decode(seed[:16], []byte(m.Seed))
	return func(i int, e *event.Event) {
		b := seed
		binary.BigEndian.PutUint64(b[16:], uint64(first)+uint64(i)) //nolint:gosec // neither is negative
		sum := sha256.Sum256(b[:])
		e.ID = hex.EncodeToString(sum[:16])
	}
}
