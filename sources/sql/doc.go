// Package sql makes events of the rows of a table, in PostgreSQL or in a SQLite file: of those that are new, or of all rows of
// an outbox table, into which an application writes in its own transactions.
//
// # New rows
//
// Rows are read in the order of the columns after, which must increase: an id, or a time and an id. The values of the last row
// are the position, committed in the transaction that holds the rows. So each row is taken once through crashes of either side.
//
// What is read must not be overtaken. A sequence gives 7 to one transaction and 8 to another, and 8 may be committed first:
// whoever reads 8 and goes on from there never sees 7. So PostgreSQL is asked twice. First for the highest row there is (high).
// Then for the transactions that hold a lock for writing on the table: whoever inserts has it from before the number was drawn
// until its transaction ends. Rows up to high are read once none of these is left, by a statement that begins after that. Later
// writers draw numbers above high. Not covered is who draws long before it inserts: an application that keeps blocks of numbers, a
// sequence with a CACHE of more than 1 under several sessions, and a time that is now(), the begin of the transaction
// (clock_timestamp() in a trigger is drawn in time); an outbox table is covered, as it has no position.
//
// A transaction that wrote to the table and stays open, also a prepared one, holds reading up as long: its row may be any number
// below high, and what is passed over is lost. After 30 s it is named in the log. One that only reads, or writes to other tables,
// holds nothing up, except behind a query or a view, of which all tables of the database count. A standby shows no locks of its
// primary's writers, so it is refused.
//
// SQLite has one writer at a time, so rows come in the order of their numbers.
//
// # An outbox table
//
// Rows are taken, and then deleted or marked. What a crash leaves between any two steps:
//
//   - before the append: rows that are locked by nobody any more, and are read again
//   - between the append and the DELETE, or when nobody knows whether the DELETE was committed: the events are here, and the
//     rows may be there. Their keys were committed in the transaction that holds the events; the first thing after a start or a
//     new connection is to delete these rows, before any other is read
//   - after the DELETE: nothing
//
// Rows of transactions that are not committed are not seen, and those of one that is rolled back never are. In PostgreSQL the
// rows are locked (FOR UPDATE SKIP LOCKED) from reading to deleting, and that transaction spans one append, never a wait. So
// several processes may share a table: each row goes to one of them. Where one ends between append and DELETE another may take
// the same rows: at most one batch, with the same ids. A key that was deleted must not be used again for another row, which
// would be deleted unread; a table of SQLite that does so (INTEGER PRIMARY KEY without AUTOINCREMENT) is refused. A row whose key
// has a NULL has no identity and stays where it is.
package sql
