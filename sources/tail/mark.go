package tail

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
)

// mark is the committed position in a file, together with what the file is known by. The state of the source is one mark for
// each file, under the file's key.
type mark struct {
	Path   string `json:"path"`           // where it was last seen
	Name   string `json:"name"`           // where it was first seen: the source of its events
	Dev    uint64 `json:"dev"`            // device and
	Ino    uint64 `json:"ino"`            // inode
	Born   int64  `json:"born,omitempty"` // when it was made, where the file system tells
	Folder uint64 `json:"folder"`         // the device of its folder, by which a folder that is not mounted is told from an empty one

	Head    int    `json:"head"`     // how many bytes of its beginning are known: whole lines, at most headSize
	HeadSum digest `json:"head_sum"` // their digest
	TailSum digest `json:"tail_sum"` // the digest of the last bytes before Offset, at most tailSize

	Offset int64 `json:"offset"`         // everything before it was emitted
	Size   int64 `json:"size"`           // how long the file was when it was last seen
	Over   over  `json:"over,omitempty"` // Offset is inside a record that is too long
}

// over says where the offset is inside a record that is too long.
type over uint8

const (
	overNone over = iota
	overLine      // inside a line
	overRest      // at the beginning of a line that may belong to the record
)

const (
	headSize = 1 << 10
	tailSize = 256

	// startedKey is set once the source has looked for files; from then on, start no longer matters.
	startedKey = "started"
)

// digest is the first half of a SHA-256.
type digest [16]byte

func digestOf(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest(sum[:16])
}

// MarshalText is hexadecimal.
func (d digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText is the reverse of MarshalText.
func (d *digest) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(d) {
		return fmt.Errorf("%q is no digest", b)
	}
	copy(d[:], raw)
	return nil
}

func (m *mark) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // a struct of numbers and texts can always be written
	}
	return b
}

func decodeMark(b []byte) (mark, error) {
	var m mark
	err := json.Unmarshal(b, &m)
	if err == nil && (m.Offset < 0 || m.Head < 0 || m.Head > headSize || m.Over > overRest) {
		err = fmt.Errorf("a position of %d cannot be", m.Offset)
	}
	return m, err
}

// identity is the key of a file, from which the ids of its events are made.
type identity struct {
	text   string
	hi, lo uint64
}

// newIdentity is that of a file that is read for the first time, at a time in nanoseconds. An inode that is used again for the
// same first bytes is another file: before is the key of the one that was known there.
func newIdentity(n inode, head digest, before string, at int64) identity {
	b := binary.BigEndian.AppendUint64(nil, n.dev)
	b = binary.BigEndian.AppendUint64(b, n.ino)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	sum := digestOf(append(append(b, head[:]...), before...))
	return identityOf(hex.EncodeToString(sum[:]))
}

// identityOf is the identity that a key stands for.
func identityOf(key string) identity {
	sum := digestOf([]byte(key))
	return identity{key, binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:])}
}

const idSize = 32

// appendID appends the id of the event at an offset: 128 bits in hexadecimal. Two offsets of one file never share an id, because
// the lower half is a bijection of the offset; the upper half and the key tell files apart.
func (i *identity) appendID(b []byte, offset int64) []byte {
	lo := uint64(offset) + i.lo
	lo ^= lo >> 33
	lo *= 0xff51afd7ed558ccd
	lo ^= lo >> 33
	lo *= 0xc4ceb9fe1a85ec53
	lo ^= lo >> 33
	high, low := bits.Mul64(lo^i.hi, i.hi|1)
	return hexUint(hexUint(b, high^low^i.lo), lo)
}

func hexUint(b []byte, n uint64) []byte {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], n)
	return hex.AppendEncode(b, raw[:])
}
