package outbox

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/millrace-run/millrace/event"
)

// Repair makes the file to of all that can be saved of an outbox that nobody has open, and reports the damages, which are what is
// lost. The outbox itself stays as it is. The new file has a new id: it is another history. Indexes are made anew, and so is the
// index of ids, by the outbox itself. What is lost is owed to nobody any more, and no offset is left for a cursor to wait at.
func Repair(ctx context.Context, path, to string) (*Condition, error) {
	var found *Condition
	_, err := Save(ctx, to, func(f *os.File) error {
		k := &keeper{}
		defer k.close()
		var err error
		if found, err = checkLocked(ctx, path, k.into(f.Name())); err == nil && k.conn == nil {
			err = fmt.Errorf("nothing can be saved: %w", &found.Damages[0])
		}
		if err == nil {
			err = k.finish(found)
		}
		return err
	})
	return found, err
}

// keeper writes what is sound into a new file. A nil keeper keeps nothing. Its errors hide the class of their cause, which is of the
// new file and not of the one that is read.
type keeper struct {
	path string
	conn *conn
}

func (k *keeper) into(path string) *keeper {
	k.path = path
	return k
}

func (k *keeper) close() {
	if k.conn != nil {
		_ = k.conn.close() // a file that is not complete is removed, and one that is was committed
		k.conn = nil
	}
}

// begin makes the tables, in the schema of the file that is read.
func (k *keeper) begin(schema int64) (err error) {
	if k == nil {
		return nil
	}
	if k.conn, err = openConn(k.path, "rw"); err != nil {
		return k.failed(err)
	}
	for _, pragma := range []string{fmt.Sprintf("page_size = %d", pageSize), "journal_mode = OFF", "synchronous = OFF"} {
		if _, err := k.conn.db.Exec("PRAGMA "+pragma, nil); err != nil {
			return k.failed(err)
		}
	}
	if err := k.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return k.failed(err)
	}
	return k.failed(makeSchemas(k.conn, 1, schema))
}

func (k *keeper) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing %s: %v", k.path, err)
}

// errImpossible is of a row that the tables do not take.
var errImpossible = errors.New("a row has what it cannot have")

// add keeps a row as it is. A secret takes the place of that of the new file.
func (k *keeper) add(r *rowScan) error {
	if k == nil {
		return nil
	}
	query := "INSERT OR REPLACE INTO " + r.table + " (" + strings.Join(r.names, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(r.names)-1) + ")"
	err := k.conn.exec(query, r.columns...)
	if err != nil && isOwn(err) {
		return fmt.Errorf("%w: %v", errImpossible, err)
	}
	return k.failed(err)
}

// subscription keeps a subscription that is not owed what is lost.
func (k *keeper) subscription(r *rowScan, x *subscriptionScan) error {
	if k == nil {
		return nil
	}
	end := event.Offset(x.topic.end)
	c := &x.cursor
	for _, h := range x.topic.holes {
		if h.to > c.at {
			c.gaps = append(c.gaps, h)
		}
	}
	c.gaps = joinGaps(c.gaps, end)
	c.advance()
	if c.at > end { // offsets behind the end are given anew, and are owed then
		*c = cursor{at: end}
	}
	for o := max(c.at, end) + 1; o <= c.at+event.Window; o++ {
		c.ahead[o%event.Window/64] &^= 1 << (o % 64)
	}
	for i, name := range r.names {
		switch name {
		case "cursor":
			r.columns[i] = int64(c.at)
		case "ahead":
			r.columns[i] = orNull(c.aheadBytes())
		case "gaps":
			r.columns[i] = orNull(c.gapBytes())
		case "ended":
			if ended, ok := r.columns[i].(int64); ok {
				r.columns[i] = min(ended, int64(end))
			}
		}
	}
	return k.add(r)
}

func orNull(b []byte) driver.Value {
	if b == nil {
		return nil
	}
	return b
}

// losses writes down which offsets have no event any more.
func (k *keeper) losses(t *topicScan) error {
	if k == nil || len(t.holes) == 0 {
		return nil
	}
	c := cursor{gaps: t.holes}
	return k.add(&rowScan{"states", []string{"owner", "key", "value"}, []driver.Value{lossOwner, t.name, c.gapBytes()}})
}

// finish gives the file its id and commits it.
func (k *keeper) finish(r *Condition) error {
	id := make([]byte, idSize)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	_, err := k.conn.db.Exec(fmt.Sprintf("INSERT INTO file (one, id, commits) VALUES (1, x'%x', %d);\n"+
		"PRAGMA application_id = %d;\nPRAGMA user_version = %d;\nCOMMIT;", id, r.Commits, applicationID, r.Schema), nil)
	return k.failed(err)
}
