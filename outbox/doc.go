// Package outbox is the durable log of Millrace: append-only topics, subscriptions with cursors, and rows for the exceptions,
// in one SQLite file. It knows records, topics, subscriptions and time; it never looks into an event's data.
//
// # What is on disk
//
//	file           the file's id and the number of its last commit
//	topics         names of the streams, and how far retention has purged each
//	segments       events: one row holds the batch of a topic that one commit appended (at most 4,096 events or 1 MiB;
//	               a larger event alone). Bodies carry a CRC; see segment.go
//	bodies         single events whose segment has gone and that rows in deliveries still name
//	subscriptions  one reader of a topic: its cursor, and a bit for each of the 4,096 offsets behind it
//	deliveries     a row for each event of a subscription that could not simply be settled. Its key, if it has one, is opaque
//	               here: it says which rows the reader hands out one after the other. It has the history of its attempts
//	               (history.go), and the event that an edit put in the place of the stored one (redrive.go)
//	states         what components want to find again, committed together with the events it belongs to
//	keys           hash, time and id of the events of a topic with Dedupe, for as long as its window; see dedupe.go
//	secrets        keys of hashes, so that nobody outside can choose what collides
//	receipts       how events were delivered: hundreds in a row, see receipts.go
//	ids            where events are by a hash of their ids, see ids.go; id_blocks says which parts are whole
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
//	dead    ──redrive──────────────▶ retry     row updated, next_at = now; with an edit, its event too
//	dead    ──redrive to another───▶ settled   row deleted here, and inserted in retry in the other subscription, which had settled it
//	dead    ──drop─────────────────▶ settled   row deleted
//	any     ──outcome with a row───▶ held      row inserted or updated; Due does not hand it out
//	held    ──released─────────────▶ retry     row updated, next_at = 1: due before all others
//	any     ──seek to before it────▶ pending   cursor moved, bit cleared, row deleted; but dead stays dead
//	pending ──seek to behind it────▶ settled   cursor moved
//
// A row in retry waits for another attempt, or for the first one: an event may have a time of its own before which it must not be
// delivered, or its key a rate. Such a row has no attempts and no error, and may wait for years.
//
// Bit and row change in the same transaction, so that an event is always in exactly one state. The cursor moves over offsets
// whose bit is set, and over gaps: ranges that were appended while the subscription was not named in any configuration,
// and dead letters behind the cursor of a seek, however far.
//
// # Seek
//
// A seek is one transaction of its own, behind a commit that takes along what its reader settled before. Of what a reader settled that
// has not heard of it nothing is left: it is dropped when the cursor is published. Rows before the target stay as they are. A dead letter at or
// behind it becomes a gap, so that its event stays in one state, and a redrive or drop finds the row as ever; gaps are written with the
// cursor until it has passed them.
//
//	crash in or before its COMMIT   cursor, bits, gaps and rows are as they were
//	crash after it                  the next reader begins at the new place
//
// # One commit, and what a crash leaves
//
// One goroutine, the writer, owns the only connection that writes. It takes everything that waits and does:
//
//	 1  BEGIN IMMEDIATE
//	 2  update rows, purge history, write keys, segments, cursors, states and receipts, raise the commit number
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
// whose time is up meanwhile are let go. A fault of one member, such as a layout that names a thing twice, is its answer. A damaged
// page of what can be done without (see Damage) is left alone from then on, and the commit is formed anew without it. Everything
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
// Outcomes of a subscription reach the disk in the order in which they were given, so that a crash leaves a first part of them: on that
// the router rests when it keeps events of one key in order. What releases a held row is given behind what ended the row before
// it, and is in the same commit unless that could not be told; with the end alone on disk, the next reader finds the held row first of
// its key (Keyed) and releases it. A reader that waits for a dead letter hears of its drop by a signal and a count (Dropped),
// which is gone after a crash; the next one finds the row missing.
//
// Due reads rows from disk while commits go on. A row that a commit changes is left out from before the COMMIT until the change is
// published: so none is handed out twice, or after it was settled.
//
// # Receipts
//
// An outcome that settles a delivery may carry a receipt: attempt, status, milliseconds. Once its commit is on disk the receipt waits
// in memory, and is written with a later commit: as soon as there is a page of them for a subscription, or when the first has
// waited for a second. Only when nothing else is committed for that long, and at Close, do they have a commit of their own. So a
// crash loses the receipts of the last second, and nothing else: what was delivered is settled without them, and an event is never
// delivered again for the lack of one. An event that is delivered twice has two.
//
// They take at most 256 MiB, whatever becomes of their events and subscriptions; then the oldest rows go, a few with each commit.
// Where less than a thirty-second part of MaxSize, or less than 2 MiB, is left below its nine tenths, none are written any more and
// the old ones make room, before history does. On a full disk none are written, and those that
// wait in memory are bounded: the oldest of a subscription go.
//
// # By id
//
// Find looks for an id in every topic. For blocks of 65,536 events there is an index on disk, of which it reads one page or less a
// block; hashes of what lies behind the last block are in memory. The index is made by a goroutine of its own, which Close waits for:
// it takes new events from the ring, reads older ones in pieces of a MiB, and writes a block in four commits that wait until
// others had their turn. At a start it begins where the last whole block ends; nobody waits for it. A look-up brings the hashes up
// to the end of the topic itself, so it finds whatever was committed before it, and reads the events of a block that has no index yet.
// Last it reads what is in bodies, where a purge may have put what was in a segment before.
//
// All of that is derived from the segments: a crash leaves a block whole or not counted, and one that is not is made again. When all
// events of a block have been purged, the same goroutine deletes its index, a few blocks in a commit; until then it does no harm.
//
// # Damage
//
// A segment that does not say what was written to it stops the subscriptions that come to it, with an error that names the topic
// and its offsets; what lies before it and other topics are read. An exception row whose event is lost stays where it is, is
// reported and keeps no other row waiting.
//
// A row of receipts that does not is an error for those who ask for a receipt in it. A part of the index of ids that does not is made
// again, and the look-up that met it reads the events instead. A look-up that has to read events which cannot be read returns an
// error that names them beside what it found. When a page of these tables is damaged, SQLite refuses to change it: no more
// receipts are kept, or the block stays without an index, and events come and go as before. Damaged history of a topic is no longer
// purged, and what is still needed of the topic is handed out; a rescued event on a damaged page stays there when its last row ends.
//
// # Retention
//
// A segment is *needed* while the cursor of a subscription of its topic that is owed something lies before its last event; a
// removed subscription counts until it has what it was owed. What is not needed is *history*: always the beginning of a topic.
// Retention purges history from the oldest on, and nothing else, whatever the clock says:
//
//	needed ──cursors pass───▶ history   nothing is written for it
//	history ──purge─────────▶ gone      segment deleted, the topic's purged and freed raised
//	                          rescued   of its events, those that rows in deliveries name are copied to bodies, once each
//	rescued ──last row ends─▶ gone      body deleted, at the end of the commit that deletes the row
//
// A segment goes when its newest event is older than Retention.Age, when all history together is more than Retention.Size, or
// when MaxSize or the disk needs the room. Each purge is one transaction, its own or a commit's that was to be made anyway, and
// moves nothing in memory before it is on disk. In a commit the order is: rows, purge, appends, cursors, states, and last the
// bodies that no row names any more, so that a row which moves from one subscription to another keeps its event. A topic knows
// its head and its total from purged and freed when all of its segments are gone, so no offset is ever given twice.
//
//	crash in or before the purge's COMMIT   segment, rows and bodies are as they were; it is purged again after the start
//	crash after it                          the segment is gone, what rows name is in bodies
//	crash in the commit of a last row       row and body are both there or both gone
//
// A seek does not go back over what was purged, and a new subscription begins at the head or behind that: no reader comes to a purged
// offset. What a seek goes back over is needed again.
// A reader that is in the middle of a read when its own cursor passes and the segment goes finds the next segment instead; it
// jumps over nothing but what it had settled. Who follows a row looks into ring, segment and bodies, in this order: what is no
// more in the segment is in bodies from the same commit on.
//
// The purge runs in the writer in pieces that are bounded in bytes and segments. Under load they ride with commits, at least
// twice of what these append, so that it keeps up; an idle writer makes commits for it, with pauses, and sleeps until something
// can be due. Deleting a segment frees its pages for the next appends; the file does not shrink.
//
// # A clock that jumps
//
// Retention by age believes the clock: one that jumps forward purges history early, and never what is needed. When the clock is
// back, segments whose time lies in the future are given the present time, lest they and all behind them stay for ever; rows
// that wait for a time which was reckoned from a wrong one wait their pause from the present on. Both are repaired at the
// start and when the clock is seen to go back.
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
// # Backup, restore, check
//
// A backup is made by SQLite on the writer's own connection, a few pages between two commits: what that connection commits goes into
// the copy as well, so that load never makes it begin anew, no read transaction keeps the WAL, and the last step leaves one commit. Its file
// has lost its name before the first page is in it. See backup.go; restore.go says what a crash leaves of a restore, whose one rename
// is finished by the next who takes the lock.
//
// A check reads every row, jumps over pages that cannot be read, and takes an event's place only if the index or a neighbor confirms
// it. A repair is a check that writes what is sound to a new file. There every subscription has a gap where events are lost; the ranges
// are kept under states of "outbox:lost", so that they are told of once.
//
// # A full disk
//
// <path>.reserve is a preallocated file. When SQLite says that the disk is full, the writer rolls back, answers the appends with
// ErrFull, deletes the reserve and commits the settlings, so that deliveries go on and make no duplicates. While it is full,
// appends are refused at once. If the reserve is used up too, settlings wait in memory and readers stop at a full window; the
// writer tries again every second. When there is room for the reserve and as much again, it is made anew and appends are taken.
// Before it refuses anything for want of room the writer purges history: the freed pages are used again, and a commit that failed is
// tried once more. Retention goes on while the disk is full.
//
// The same refusal, without the drama, comes at nine tenths of MaxSize, when there is no history left to give. What appends and
// settles in one commit drains the outbox and is taken up to MaxSize itself.
package outbox
