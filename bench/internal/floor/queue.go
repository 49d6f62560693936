package floor

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// Queue is the usual table of jobs: a row for each event and sink. A consumer claims rows and deletes each when its event was
// delivered; the event goes with its last row. What waits is committed together by one writer, with the settings that the outbox
// has, so that the difference is the design.
type Queue struct {
	db     *sqlite3.SQLiteConn
	known  map[string]*sqlite3.SQLiteStmt
	work   chan job
	ended  chan struct{} // closed when the writer has ended
	newest int64         // id of the last event; the writer's
}

// job is one change; the writer answers it after the commit that held it.
type job struct {
	do   func() error
	done chan error
}

const queueSchema = `
CREATE TABLE events (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE deliveries (
    event   INTEGER NOT NULL,
    sink    INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    PRIMARY KEY (event, sink)
) WITHOUT ROWID;
CREATE INDEX waiting ON deliveries (sink, event) WHERE claimed = 0;`

const oldest = "SELECT event, body FROM deliveries JOIN events ON id = event WHERE sink = ? AND claimed = 0 ORDER BY event LIMIT ?"

// OpenQueue makes a queue in a new file. Whoever opens it must Close it.
func OpenQueue(path string) (*Queue, error) {
	db, err := (&sqlite3.SQLiteDriver{}).Open("file:" + path + "?_mutex=no")
	if err != nil {
		return nil, err
	}
	q := &Queue{
		db: db.(*sqlite3.SQLiteConn), known: map[string]*sqlite3.SQLiteStmt{}, work: make(chan job), ended: make(chan struct{}),
	}
	for _, text := range []string{
		"PRAGMA page_size = 8192", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA wal_autocheckpoint = 512",
		"PRAGMA cache_size = -8192", queueSchema,
	} {
		if _, err := q.db.Exec(text, nil); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	go q.run()
	return q, nil
}

// Close waits for the writer and closes the file. Nobody may use the queue any more.
func (q *Queue) Close() error {
	close(q.work)
	<-q.ended
	return q.closeFile()
}

func (q *Queue) closeFile() error {
	var errs []error
	for _, s := range q.known {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, q.db.Close())...)
}

// run commits whatever waits, together.
func (q *Queue) run() {
	defer close(q.ended)
	for first := range q.work {
		jobs := append([]job{first}, q.waiting()...)
		err := q.commit(jobs)
		for _, j := range jobs {
			j.done <- err
		}
	}
}

func (q *Queue) waiting() (jobs []job) {
	for {
		select {
		case j, ok := <-q.work:
			if !ok {
				return jobs
			}
			jobs = append(jobs, j)
		default:
			return jobs
		}
	}
}

func (q *Queue) commit(jobs []job) error {
	if err := q.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, j := range jobs {
		if err := j.do(); err != nil {
			return errors.Join(err, q.exec("ROLLBACK"))
		}
	}
	return q.exec("COMMIT")
}

func (q *Queue) do(f func() error) error {
	j := job{do: f, done: make(chan error, 1)}
	q.work <- j
	return <-j.done
}

func (q *Queue) prepare(query string) (*sqlite3.SQLiteStmt, error) {
	if s := q.known[query]; s != nil {
		return s, nil
	}
	s, err := q.db.Prepare(query)
	if err != nil {
		return nil, err
	}
	q.known[query] = s.(*sqlite3.SQLiteStmt)
	return q.known[query], nil
}

func (q *Queue) exec(query string, args ...driver.Value) error {
	s, err := q.prepare(query)
	if err != nil {
		return err
	}
	_, err = s.Exec(args)
	return err
}

// Put stores events with a row for each of the sinks 1 to sinks.
func (q *Queue) Put(bodies [][]byte, sinks int) error {
	return q.do(func() error {
		for _, body := range bodies {
			q.newest++
			if err := q.exec("INSERT INTO events VALUES (?, ?)", q.newest, body); err != nil {
				return err
			}
			for sink := range sinks {
				if err := q.exec("INSERT INTO deliveries VALUES (?, ?, 0)", q.newest, int64(sink+1)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Claim takes the oldest events that wait for a sink, at most n.
func (q *Queue) Claim(sink, n int) (ids []int64, bodies [][]byte, err error) {
	err = q.do(func() error {
		ids, bodies = nil, nil
		s, err := q.prepare(oldest)
		if err != nil {
			return err
		}
		rows, err := s.Query([]driver.Value{int64(sink), int64(n)})
		if err != nil {
			return err
		}
		columns := make([]driver.Value, 2)
		for err = rows.Next(columns); err == nil; err = rows.Next(columns) {
			ids, bodies = append(ids, columns[0].(int64)), append(bodies, columns[1].([]byte))
		}
		if err := errors.Join(rows.Close(), unless(err, io.EOF)); err != nil {
			return err
		}
		for _, id := range ids {
			if err := q.exec("UPDATE deliveries SET claimed = 1 WHERE event = ? AND sink = ?", id, int64(sink)); err != nil {
				return err
			}
		}
		return nil
	})
	return ids, bodies, err
}

func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// Done deletes the rows of events that were delivered to a sink, and the events that have no more rows.
func (q *Queue) Done(sink int, ids []int64) error {
	return q.do(func() error {
		for _, id := range ids {
			if err := q.exec("DELETE FROM deliveries WHERE event = ? AND sink = ?", id, int64(sink)); err != nil {
				return err
			}
			err := q.exec("DELETE FROM events WHERE id = ? AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = ?)", id, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Turnover puts batches of a body for a time while each sink takes them, waits until all has been delivered, and returns how many
// events went through.
func (q *Queue) Turnover(ctx context.Context, body []byte, batch, sinks int, d time.Duration) (n int, err error) {
	bodies := make([][]byte, batch)
	for i := range bodies {
		bodies[i] = body
	}
	t := &turnover{Queue: q, batch: batch, bodies: bodies, until: time.Now().Add(d)}
	for range sinks {
		t.wake = append(t.wake, make(chan struct{}, 1))
	}
	var all sync.WaitGroup
	errs := make([]error, sinks+1)
	all.Go(func() { errs[0] = t.produce(ctx) })
	for sink := 1; sink <= sinks; sink++ {
		all.Go(func() { errs[sink] = t.consume(ctx, sink) })
	}
	all.Wait()
	return int(t.put.Load()), errors.Join(append(errs, ctx.Err())...)
}

// turnover is one run of Turnover.
type turnover struct {
	*Queue
	batch  int
	bodies [][]byte
	until  time.Time
	put    atomic.Int64    // events stored
	over   atomic.Bool     // nothing is stored any more
	wake   []chan struct{} // of each sink; holds a signal when there may be more
}

func (t *turnover) produce(ctx context.Context) (err error) {
	for time.Now().Before(t.until) && ctx.Err() == nil && err == nil {
		if err = t.Put(t.bodies, len(t.wake)); err == nil {
			t.put.Add(int64(t.batch))
		}
		t.tell()
	}
	t.over.Store(true)
	t.tell()
	return err
}

func (t *turnover) tell() {
	for _, wake := range t.wake {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// consume claims and finishes what waits for a sink until everything was taken that will ever be stored.
func (t *turnover) consume(ctx context.Context, sink int) error {
	for taken := int64(0); !t.over.Load() || taken < t.put.Load(); {
		ids, _, err := t.Claim(sink, t.batch)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			select {
			case <-t.wake[sink-1]:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if err := t.Done(sink, ids); err != nil {
			return err
		}
		taken += int64(len(ids))
	}
	return nil
}

// Freed is the share of a database's pages that nothing uses any more, 0 to 1. The database may be in use.
func Freed(path string) (share float64, err error) {
	db, err := (&sqlite3.SQLiteDriver{}).Open("file:" + path + "?mode=ro")
	if err != nil {
		return 0, err
	}
	q := &Queue{db: db.(*sqlite3.SQLiteConn), known: map[string]*sqlite3.SQLiteStmt{}}
	defer func() { err = errors.Join(err, q.closeFile()) }()
	free, err := q.integer("PRAGMA freelist_count")
	if err != nil {
		return 0, err
	}
	all, err := q.integer("PRAGMA page_count")
	return float64(free) / float64(max(1, all)), err
}

func (q *Queue) integer(query string) (int64, error) {
	s, err := q.prepare(query)
	if err != nil {
		return 0, err
	}
	rows, err := s.Query(nil)
	if err != nil {
		return 0, err
	}
	column := make([]driver.Value, 1)
	err = rows.Next(column)
	n, _ := column[0].(int64)
	return n, errors.Join(unless(err, io.EOF), rows.Close())
}
