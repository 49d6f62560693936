package outbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/event"
)

const (
	copyPages = 32      // pages that one step copies between two commits
	copyShare = 4       // a step takes at most one of so many parts of the writer's time
	copySync  = 1 << 20 // bytes after which a copy is synced, so that no commit's fsync has to wait for more of it
)

const copySuffix = ".copying"

// Progress hears how many bytes of how many are copied. It may be nil. The total grows when the outbox does.
type Progress func(done, total int64)

// Backup copies the outbox as it is at one commit, the last before the copy is complete, while everybody works on. The file has
// no name any more, so that neither a crash nor a forgetful caller leaves it behind; the caller closes it. It takes as much room
// beside the outbox as the outbox itself. One backup runs at a time.
func (b *Outbox) Backup(ctx context.Context, progress Progress) (*os.File, error) {
	if !b.backing.TryLock() {
		return nil, errors.New("another backup of this outbox is under way; wait for it")
	}
	defer b.backing.Unlock()
	path := b.path + copySuffix
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	x := &copying{to: f, progress: progress, keep: b.writer.reserve.size + 2*minFree}
	err = b.aside(ctx, func(c *conn) error {
		err := x.begin(c)
		if err == nil {
			b.writer.copying = x
		}
		return err
	})
	if err = errors.Join(err, os.Remove(path)); err == nil {
		err = x.run(func(step func() error) error { return b.paced(ctx, step) })
	}
	// Whatever became of ctx. Should the outbox have closed, its writer ends the copy.
	err = errors.Join(err, b.aside(context.WithoutCancel(ctx), func(*conn) error {
		b.writer.copying = nil
		return x.end()
	}))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// paced runs a step of a copy and leaves the writer to others for a while.
func (b *Outbox) paced(ctx context.Context, step func() error) error {
	var took time.Duration
	err := b.aside(ctx, func(*conn) error {
		begin := b.clock.Now()
		defer func() { took = b.clock.Now().Sub(begin) }()
		return step()
	})
	if err != nil {
		return err
	}
	pause, stop := b.clock.After(min(took*(copyShare-1), time.Second))
	defer stop()
	select {
	case <-pause:
		return nil
	case <-b.queue.closing:
		return event.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// aside runs work on the writer's goroutine between two commits.
func (b *Outbox) aside(ctx context.Context, work func(c *conn) error) error {
	r := &request{aside: work, done: make(chan error, 1)}
	if err := b.queue.put(ctx, r); err != nil {
		return err
	}
	return b.queue.wait(ctx, r)
}

// copying is a copy of a file under way, by SQLite's backup. It runs on the connection that writes, and on its goroutine: what that
// connection commits between two steps goes into the copy too, so the copy never begins anew because of it, and the last step
// leaves the file as it is at that moment. Between steps it holds no lock and no place in the WAL.
type copying struct {
	to       *os.File
	dest     *conn
	backup   *sqlite3.SQLiteBackup
	progress Progress
	keep     int64 // bytes that must stay free on the disk

	done, total int64
	synced      int64
}

// begin makes the copy's own connection, which syncs and rolls back nothing: a copy that is not complete is of no use.
func (x *copying) begin(from *conn) (err error) {
	x.dest, err = openConn(x.to.Name(), "rw")
	if err != nil {
		return err
	}
	for _, pragma := range []string{"journal_mode = OFF", "synchronous = OFF"} {
		if _, err := x.dest.db.Exec("PRAGMA "+pragma, nil); err != nil {
			return errors.Join(err, x.dest.close())
		}
	}
	pages, err := from.integer("PRAGMA page_count")
	if err == nil {
		x.total = pages * pageSize
		err = x.room()
	}
	if err == nil {
		x.backup, err = x.dest.db.Backup("main", from.db, "main")
	}
	if err != nil {
		return errors.Join(err, x.dest.close())
	}
	return nil
}

// run does steps until the copy is complete and synced. on runs a step where the connection that is copied may be used.
func (x *copying) run(on func(step func() error) error) error {
	for complete := false; !complete; {
		err := on(func() (err error) {
			complete, err = x.step()
			return err
		})
		if err == nil && (complete || x.done-x.synced >= copySync) {
			err = x.flush()
		}
		if err != nil {
			return fmt.Errorf("copying the outbox: %w", err)
		}
		if x.progress != nil {
			x.progress(x.done, x.total)
		}
	}
	return nil
}

// step copies some pages.
func (x *copying) step() (complete bool, err error) {
	if x.backup == nil {
		return false, errors.New("the outbox was closed")
	}
	if complete, err = x.backup.Step(copyPages); err != nil {
		return false, err
	}
	x.total = int64(x.backup.PageCount()) * pageSize
	done := x.total - int64(x.backup.Remaining())*pageSize
	if done < x.done { // it began anew: a transaction was rolled back, or another program wrote to the file
		x.synced = 0
	}
	x.done = done
	return complete, nil
}

// flush syncs what is there, away from the writer, and looks whether the disk still has room.
func (x *copying) flush() error {
	x.synced = x.done
	return errors.Join(unix.Fdatasync(int(x.to.Fd())), x.room())
}

// room says whether the rest of the copy fits.
func (x *copying) room() error {
	free, err := freeBytes(x.to.Name())
	if need := x.total - x.done + x.keep; err == nil && free < need {
		err = fmt.Errorf("no room for a copy in %s: %d bytes are free, it takes %d", folder(x.to.Name()), free, need)
	}
	return err
}

// end gives up what begin took. It may be called twice.
func (x *copying) end() error {
	if x.backup == nil {
		return nil
	}
	// What finishing says was said by the step that failed.
	_ = x.backup.Finish()
	x.backup = nil
	return x.dest.close()
}

// BackupFile makes the file to as a backup of an outbox that nobody has open. The outbox is recovered from a crash, and else stays as
// it is: it is not migrated. A *LockedError names the process that has it.
func BackupFile(ctx context.Context, path, to string, progress Progress) (*Condition, error) {
	return Save(ctx, to, func(f *os.File) error {
		return withFile(path, func(c *conn) error { return copyTo(ctx, c, f, progress) })
	})
}

// withFile opens an outbox for one who holds its lock meanwhile.
func withFile(path string, use func(c *conn) error) error {
	path, held, err := hold(path)
	if err != nil {
		return err
	}
	defer held.Close()
	if err := inspect(path); err != nil {
		return err
	}
	c, err := openConn(path, "rw")
	if err != nil {
		return fmt.Errorf("outbox %s: %w", path, err)
	}
	err = takeIn(c)
	if err == nil {
		err = use(c)
	}
	return errors.Join(err, c.close())
}

// hold takes the lock of an outbox that must be there.
func hold(path string) (real string, held *os.File, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("there is no outbox at %s: %w", path, err)
	}
	if real, err = resolve(path); err != nil {
		return "", nil, fmt.Errorf("outbox %s: %w", path, err)
	}
	if held, err = lock(real); err != nil {
		return "", nil, err
	}
	if err := finishRestore(real); err != nil {
		return "", nil, errors.Join(err, held.Close())
	}
	return real, held, nil
}

func copyTo(ctx context.Context, c *conn, f *os.File, progress Progress) error {
	x := &copying{to: f, progress: progress}
	if err := x.begin(c); err != nil {
		return err
	}
	err := x.run(func(step func() error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return step()
	})
	return errors.Join(err, x.end())
}

// Save makes the file to, which must not be there yet, of what fill writes. Until that is verified and synced it has another name,
// to.partial: what a crash leaves under that is written over by the next try. An error leaves nothing.
func Save(ctx context.Context, to string, fill func(f *os.File) error) (_ *Condition, err error) {
	if _, err := os.Lstat(to); err == nil {
		return nil, fmt.Errorf("%s is there already: a backup takes the place of nothing; give another name", to)
	}
	f, err := claim(to + ".partial")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var report *Condition
	if err = fill(f); err == nil {
		report, err = proveSound(ctx, f.Name())
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = rename(f.Name(), to)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return report, nil
}

// claim makes an empty file that no other process writes to.
func claim(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is being written by another process", path), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// rename gives a file its name for good.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// proveSound says what is in a file that nobody writes to. One with damage is an error that names the first.
func proveSound(ctx context.Context, path string) (*Condition, error) {
	r, err := check(ctx, path, still, nil)
	if err == nil && len(r.Damages) > 0 {
		err = fmt.Errorf("what was copied has %s, which millrace fsck lists: %w", r.Count(), &r.Damages[0])
	}
	return r, err
}
