package outbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
)

const (
	idSize   = 16
	markSize = idSize + 8 + 4 // id, commit number, CRC-32C of both
)

// mark is the file <path>.mark: which file, and which commit it had seen. It is written after each commit was synced and is
// not synced itself. So it may trail the file, and never leads it: a file that is behind its mark has lost commits, for
// example because its WAL was deleted or an old copy was put in its place.
type mark struct{ file *os.File }

func openMark(path string) (*mark, error) {
	f, err := os.OpenFile(path+".mark", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(markSize); err != nil { // one that is longer would never be valid again
		return nil, errors.Join(err, f.Close())
	}
	return &mark{f}, nil
}

func (m *mark) write(id []byte, commit int64) error {
	b := make([]byte, 0, markSize)
	b = append(b, id...)
	b = binary.BigEndian.AppendUint64(b, uint64(commit))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err := m.file.WriteAt(b, 0)
	return err
}

// readMark returns the commit number that the mark beside path holds for the file with this id. No mark, the mark of another
// file or a torn one (its write was cut by a crash) say nothing: 0.
func readMark(path string, id []byte) (int64, error) {
	b, err := os.ReadFile(path + ".mark")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) != markSize || crc32.Checksum(b[:markSize-4], castagnoli) != binary.BigEndian.Uint32(b[markSize-4:]) {
		return 0, nil
	}
	if string(b[:idSize]) != string(id) {
		return 0, nil
	}
	return int64(binary.BigEndian.Uint64(b[idSize:])), nil
}

// BehindError says that an outbox lacks commits that were once acknowledged.
type BehindError struct {
	Path      string
	Has, Seen int64 // commit numbers
}

// Error says what is wrong and what can be done.
func (e *BehindError) Error() string {
	return fmt.Sprintf("outbox %s lacks commits: it is at commit %d, but %s.mark has seen %d. "+
		"Was %s-wal removed, or an older copy put in its place? Put the missing file back; an older copy is put there by millrace restore; "+
		"or, to go on without the lost events, remove the mark", e.Path, e.Has, e.Path, e.Seen, e.Path)
}
