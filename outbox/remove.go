package outbox

import (
	"errors"
	"io/fs"
	"os"
)

// Remove deletes an outbox with all that belongs to it, whatever it holds. It is an error when a process has it open
// (*LockedError), and none when there is no outbox. The lock stays, as it must.
func Remove(path string) error {
	path, err := resolve(path)
	if err != nil {
		return err
	}
	held, err := lock(path)
	if err != nil {
		return err
	}
	defer held.Close()
	// The file goes first: what is left behind by a crash in between belongs to no file.
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".mark", ".reserve"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
