// Package sql writes each event as a row of a table, in PostgreSQL or in a SQLite file.
//
// # Exactly once
//
// A batch is one transaction. What a crash leaves between any two steps:
//
//   - before the COMMIT: nothing in the table; the events are pending and come again
//   - after the COMMIT and before the settling is on disk here, or when the connection breaks during the COMMIT, so that nobody
//     knows: the rows are there, and the events come again. The statement is an upsert on key, by default the event's source
//     and id, so the same rows are written over themselves (update) or left alone (ignore)
//
// So each event is in the table once, whatever ends either process. That needs a unique index on key, which the upsert itself
// demands of the table (42P10 otherwise), and a key that is not null, which this package demands of the event. With
// on_conflict: error there is no upsert: an event that comes again is a dead letter.
//
// The sink is one writer: one connection, one transaction at a time, in the order of the log. So of two events with one key the
// later one wins, and the sink never meets itself in a deadlock. It takes all that waits, up to
// 4,096 events or 4 MiB, so that one connection is enough.
//
// # Two ways into PostgreSQL
//
// COPY into the table itself is the fastest, and knows no upsert: it fails as a whole when one key is there already. It is what
// new events take. Whatever stands against it, the batch goes by the second way: COPY into a temporary table, and INSERT … ON
// CONFLICT from there. The first batch of each connection goes that way too, because the statement shows that the unique index
// exists; what was in flight when the connection before ended is in it. After a batch that met a key the next ones take the
// second way, up to 64 of them. Rows are made while COPY runs, so that Millrace and the server work at the same time.
//
// The temporary table has the columns' types as they were when it was made. A row that it refuses is therefore tried again with
// one that was made anew, before anything is said about the event.
//
// # Verdicts
//
// A transaction that a row breaks says nothing about the others: its halves are written by themselves, until single rows answer
// for themselves. Such a row is Permanent; what is no fault of a row is Unavailable, for all that were not written
// (databases.Verdict). What fails before any row is written, such as making the table, is never the fault of one.
//
// A row that ends the connection, or takes longer than a delivery may, looks like an outage. It is found (doubt) and then counts,
// so that it ends in the dead letters: but only when others were written since it failed last. A row that waits alone is tried
// without end, as in an outage, and keeps nobody waiting. What was found is kept in memory; after a restart it is found again.
//
// An event that failed and comes again is written when it comes: later than others with its key that were behind it.
package sql
