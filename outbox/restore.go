package outbox

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Restore takes effect with one rename. What a crash leaves:
//
//	crash                           on disk                                          next
//	while the copy is made          <path>.restoring beside the outbox, if any       the outbox is used as ever; the next restore
//	                                                                                 writes over it
//	after it is named .restored     a copy that is verified and synced               whoever takes the lock next, a start too,
//	                                                                                 moves the old files aside and it in their place
//	while files are moved           some moved; <path>.restored is there until last  as before: each move is done once, and the name
//	                                                                                 aside is free until the file itself has it
//
// The WAL is moved before its file: a WAL beside a file that is not its own would damage that one.
const (
	restoringSuffix = ".restoring"
	restoredSuffix  = ".restored"
)

// RestoreOptions say what is restored where. From and To must be set.
type RestoreOptions struct {
	From  string // a backup, or an outbox that was closed
	To    string // of the outbox; its folder is made if it is missing
	Force bool   // move an outbox that is there aside
	// Forget says whose states are left out, because what they tell of has gone on since the backup. Nil keeps all.
	Forget   func(owner string) bool
	Progress Progress
}

// Restored is what became of a restore.
type Restored struct {
	Condition
	Aside string `json:"aside"` // where the outbox is that was there before; empty: there was none
}

// ErrThere says that a restore would take the place of an outbox.
var ErrThere = errors.New("there is an outbox already")

// Restore puts a verified copy of a backup in the place of an outbox that nobody has open. It gets an id of its own, so that no mark of
// another history is mistaken for its own. A *LockedError names the process that has the outbox, or the backup.
func Restore(ctx context.Context, o RestoreOptions) (_ *Restored, err error) {
	path, err := resolve(o.To)
	if err != nil {
		return nil, fmt.Errorf("outbox %s: %w", o.To, err)
	}
	if err := checkFileSystem(path); err != nil {
		return nil, err
	}
	held, err := lock(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	if err := finishRestore(path); err != nil {
		return nil, err
	}
	there, err := anyContent(path, path+"-wal")
	if err != nil {
		return nil, err
	}
	if there && !o.Force {
		return nil, fmt.Errorf("%w at %s", ErrThere, path)
	}
	report, err := prepareRestore(ctx, path, &o)
	if err != nil {
		return nil, fmt.Errorf("restoring %s: %w", o.From, err)
	}
	r := &Restored{Condition: *report}
	if there {
		r.Aside = asideName(path)
	}
	if err := rename(path+restoringSuffix, path+restoredSuffix); err != nil {
		return nil, err
	}
	if err := finishRestore(path); err != nil {
		return nil, err
	}
	return r, markRestored(path, report)
}

func anyContent(paths ...string) (bool, error) {
	for _, p := range paths {
		if there, err := hasContent(p); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// prepareRestore makes a verified, synced copy with an id of its own.
func prepareRestore(ctx context.Context, path string, o *RestoreOptions) (_ *Condition, err error) {
	tmp := path + restoringSuffix
	if err := removeAll(tmp); err != nil { // of a restore that was interrupted
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(tmp))
		}
	}()
	if err := copySource(ctx, o, tmp); err != nil {
		return nil, err
	}
	if err := renew(tmp, o.Forget); err != nil {
		return nil, err
	}
	return proveSound(ctx, tmp)
}

// copySource copies the backup, of which nobody may be writing.
func copySource(ctx context.Context, o *RestoreOptions, tmp string) (err error) {
	if wal, err := hasContent(o.From + "-wal"); err != nil || wal {
		return errors.Join(err, fmt.Errorf("it has a log, %s-wal: it is an outbox in use or after a crash, and no backup; "+
			"make one with millrace backup", o.From))
	}
	if _, err := os.Stat(o.From + ".lock"); err == nil {
		held, err := lock(o.From)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	from, err := os.Open(o.From)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return errors.New("it is no file with anything in it")
	}
	if free, err := freeBytes(tmp); err == nil && free < info.Size() {
		return fmt.Errorf("no room in %s: %d bytes are free, it takes %d", folder(tmp), free, info.Size())
	}
	to, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copyAll(ctx, to, from, info.Size(), o.Progress), to.Sync(), to.Close())
}

func copyAll(ctx context.Context, to io.Writer, from io.Reader, size int64, progress Progress) error {
	for done := int64(0); ; {
		n, err := io.CopyN(to, from, copySync)
		done += n
		if progress != nil {
			progress(done, size)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

// renew migrates a copy, gives it an id of its own and leaves out states. It ends without a WAL.
func renew(path string, forget func(owner string) bool) error {
	if err := inspect(path); err != nil {
		return err
	}
	c, err := openFile(path)
	if err != nil {
		return err
	}
	id := make([]byte, idSize)
	if _, err := rand.Read(id); err != nil {
		return errors.Join(err, c.close())
	}
	err = c.exec("BEGIN IMMEDIATE")
	if err == nil {
		err = c.exec("UPDATE file SET id = ?", id)
	}
	if err == nil && forget != nil {
		err = forgetStates(c, forget)
	}
	if err == nil {
		err = c.exec("COMMIT")
	}
	if err == nil {
		err = takeIn(c)
	}
	return errors.Join(err, c.close(), os.RemoveAll(path+"-wal"), os.RemoveAll(path+"-shm"))
}

func forgetStates(c *conn, forget func(owner string) bool) error {
	var owners []string
	err := c.each("SELECT DISTINCT owner FROM states", func(columns []driver.Value) error {
		if owner, ok := columns[0].(string); ok && forget(owner) {
			owners = append(owners, owner)
		}
		return nil
	})
	for _, owner := range owners {
		if err == nil {
			err = c.exec("DELETE FROM states WHERE owner = ?", owner)
		}
	}
	return err
}

// removeAll removes a file and what SQLite leaves beside it.
func removeAll(path string) error {
	var errs []error
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		if err := os.Remove(path + suffix); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// finishRestore puts a restored file in its place, if one waits for it. Its caller has the lock.
func finishRestore(path string) error {
	if _, err := os.Stat(path + restoredSuffix); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	aside := asideName(path)
	for _, suffix := range []string{"-wal", "-journal", ".mark", ""} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if suffix == "" || suffix == "-wal" { // on disk in this order
			if err := syncFolder(folder(path)); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(path + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return rename(path+restoredSuffix, path)
}

// asideName is a name that no outbox has yet.
func asideName(path string) string {
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s.before-restore-%d", path, n)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
}

// markRestored writes the mark of the new file, so that from now on an older one in its place is noticed.
func markRestored(path string, r *Condition) error {
	id, err := hex.DecodeString(r.ID)
	if err != nil {
		return err
	}
	m, err := openMark(path)
	if err != nil {
		return err
	}
	return errors.Join(m.write(id, r.Commits), unix.Fsync(int(m.file.Fd())), m.file.Close())
}
