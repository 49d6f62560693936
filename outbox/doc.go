// Package outbox is the durable log of Millrace: append-only topics, subscriptions with cursors, and rows for the exceptions,
// in one SQLite file. It knows records, topics, subscriptions and time; it never looks into an event's data.
//
// # What is on disk
//
//	file           the file's id and the number of its last commit
//	topics         names of the streams
//	segments       events: one row holds the batch of a topic that one commit appended (at most 4,096 events or 1 MiB;
//	               a larger event alone). Bodies carry a CRC; see segment.go
//	subscriptions  one reader of a topic: its cursor, and a bit for each of the 4,096 offsets behind it
//	deliveries     a row for each event of a subscription that could not simply be settled
//	states         what components want to find again, committed together with the events it belongs to
//	keys           hash, time and id of the events of a topic with Dedupe, for as long as its window; see dedupe.go
//	secrets        what makes the hashes of this file its own
//
// # States of an event in a subscription
//
// An event is *pending* from the commit that appended it. Nothing is written for that: an offset beyond the cursor whose bit is
// not set is pending. It leaves this state in one of two ways, both in the commit that carries the subscription's outcome:
//
//	pending ──settled──────────────▶ settled   bit set, or cursor moved over it; no row
//	pending ──outcome with a row───▶ retry     row inserted, bit set
//	pending ──outcome with a row───▶ dead      row inserted, bit set
//	retry   ──settled──────────────▶ settled   row deleted
//	retry   ──outcome with a row───▶ retry     row updated (attempts, next_at)
//	retry   ──outcome with a row───▶ dead      row updated
//	dead    ──redrive──────────────▶ retry     row updated, next_at = now
//	dead    ──drop─────────────────▶ settled   row deleted
//
// Bit and row change in the same transaction, so that an event is always in exactly one state. The cursor moves over offsets
// whose bit is set, and over gaps: ranges that were appended while the subscription was not named in any configuration.
//
// # One commit, and what a crash leaves
//
// One goroutine, the writer, owns the only connection that writes. It takes everything that waits and does:
//
//	 1  BEGIN IMMEDIATE
//	 2  insert segments, update cursors and rows, write states, raise the commit number
//	 3  COMMIT: SQLite writes the pages to the WAL and fsyncs it (synchronous=FULL)
//	 4  write the mark: file id and commit number, 28 bytes in <path>.mark, not synced
//	 5  move the state in memory, put the events into the ring, wake the readers
//	 6  answer those who wait
//
//	crash in or before 2     nothing of it is on disk, nobody was answered
//	crash in 3               the commit frame is on disk or it is not: all of it or nothing. Nobody was answered, so either is
//	                         right; what did get to disk is delivered, and a client that asks again makes a second event
//	crash between 3 and 4    the mark trails by one commit, which is allowed
//	crash between 4 and 6    committed but not answered, as in 3
//	crash after 6            the answer is true: the events were synced in 3
//	power loss               as a crash: the mark may go back, it never leads the WAL's sync
//
// A commit that fails leaves nothing behind: the writer rolls back and decides by the error. A full disk refuses the appends and
// tries the rest again (below). A lock held by another program (somebody looks with the sqlite3 shell) is waited for, and callers
// whose time is up meanwhile are let go. A fault of one member, such as a layout that names a thing twice, is its answer. Everything
// else, a failed fsync above all, ends the outbox: those in the commit hear ErrUnknown, later ones ErrClosed, and Failed tells
// the process to end. It never tries a second fsync, because the kernel may have dropped the pages that the first could not write.
//
// # Duplicates
//
// The writer decides in 2 whether an event is a duplicate, and writes the key of one that is not together with it: event and key are
// both on disk or neither is, whatever happened above. A duplicate of an event in the same commit is answered in 6 like that one. A
// commit that fails takes its keys back out of memory, so that nothing is remembered of what was refused. Keys are loaded when
// Configure names their topic, and do not need the events that they are of.
//
// # Settling is lazy
//
// Outcomes given to Settle ride with the next commit, at the latest 10 ms later. A crash before that leaves the events pending (or
// their rows as they were): they are delivered again. That is the whole duplicate window of a sink that is not exactly once.
//
// Due reads rows from disk while commits go on. A row that a commit changes is left out from before the COMMIT until the change is
// published: so none is handed out twice, or after it was settled.
//
// # Damage
//
// A segment that does not say what was written to it stops the subscriptions that come to it, with an error that names the topic
// and its offsets; what lies before it and other topics are read. An exception row whose event is lost stays where it is, is
// reported and keeps no other row waiting.
//
// # Checkpoints, start
//
// The writer checkpoints (PASSIVE) every 4 MiB of WAL and looks at the result. Should readers have kept the WAL from being used
// again and it passes 16 MiB, it closes a gate that every reader passes, checkpoints with TRUNCATE and opens it. A crash inside a
// checkpoint is repaired by SQLite: the WAL is whole until everything from it is in the file and synced.
//
// At start, before anything is read by others: take the lock (<path>.lock, the kernel's, so that a dead holder leaves nothing
// behind), look at the file read-only (is it ours, is its schema known, is it behind its mark), recover, migrate in one
// transaction, checkpoint with TRUNCATE so that what recovery read from the page cache is written and synced anew. A crash
// anywhere in it is repaired by doing it again. A disk that is too full for it gets the room of the reserve (below).
//
// # A full disk
//
// <path>.reserve is a preallocated file. When SQLite says that the disk is full, the writer rolls back, answers the appends with
// ErrFull, deletes the reserve and commits the settlings, so that deliveries go on and make no duplicates. While it is full,
// appends are refused at once. If the reserve is used up too, settlings wait in memory and readers stop at a full window; the
// writer tries again every second. When there is room for the reserve and as much again, it is made anew and appends are taken.
// The same refusal, without the drama, comes at nine tenths of MaxSize.
package outbox
