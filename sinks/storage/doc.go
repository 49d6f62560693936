// Package storage appends events to local files, each event exactly once.
//
// # State
//
// For each file that the sink writes, its state holds a mark under the absolute path that the template gave: the file's name,
// device and inode, the settled length, and a hash of the last 256 bytes before that length. What is before the settled length
// is complete and synced. What is behind it is nobody's: the sink cuts it off. A file's name differs from its path only by a
// number, if the path was taken (archive.1.ndjson).
//
// A mark is committed in two ways: by save, once, before the first byte is written to a file; and with the settling of the events
// that made it longer. So no byte is ever written to a file of which the state does not know where it began, and no byte
// that the sink did not write is ever cut.
//
// # One delivery
//
// For up to 256 files at a time:
//
//  1. look at each file: still there, the same inode, not shorter; cut it if an earlier write failed
//  2. begin those that are new: make folders and an empty file, or open what is there and note its size
//  3. sync each new file, its folder and the folders up to the root
//  4. save the marks of the new files, all at once
//  5. write the lines of each file with one write behind its settled length, after a line feed if the last line has no end
//  6. sync the file, and look whether it still stands at its path
//  7. answer the verdicts and the longer marks; the router commits both together
//
// # Crashes
//
// What a crash leaves behind, of the process or of the machine, and what happens next. Events that were not settled are delivered
// again in every case.
//
//	crash            on disk                                     in the state     after Open and the next delivery
//	before 2         what was there                              as before        nothing to do
//	in 2, 3          perhaps folders and an empty file           as before        the empty file is continued from length 0
//	in 2, 3, foreign the foreign file, unchanged                 as before        its size is noted again
//	in 4, before     as above                                    as before        as above
//	in 4, after      the file at its beginning, synced           begins here      written from there
//	in 5, 6          some, all or none of the lines, or torn     old length       cut to the old length, written again
//	after 6          all lines, synced                           old length       cut to the old length, written again
//	in 7, before     all lines, synced                           old length       cut to the old length, written again
//	in 7, after      all lines, synced                           new length       nothing to cut; the events are settled
//	in Open's cut    the file is as long as before or is cut     old length       cut again
//
// A write or sync that fails is a crash in 5 or 6 that the process survives: the file is cut at once, or if that fails too before
// its next write, and its events are Unavailable. A failed sync is not repeated; the bytes are cut off and written anew.
// When save fails it may have been committed nevertheless: the file has no line yet, so both are the same.
//
// # Files that others touch
//
// A file at the path that the state does not know is continued behind its end. A file in the state that is shorter than settled,
// is another inode, or has other bytes where the settled ones end, is left alone and reported: the path gets a new file under
// its own name if that is free or an empty file, else under the first free number. The same happens while the sink runs. A file
// that somebody made longer while it runs is continued behind that; at a start this cannot be told from an unsettled line, and
// is cut. Device numbers may change when a machine starts: the inode and the hash decide, the device only of a file without
// settled bytes. Programs that move files away and make new ones work; those that copy and truncate do too, but what is
// written between the two is theirs to lose.
//
// # Bounds
//
// At most 256 files are open. When the state has more than 1,024 files, those that were not used for longest are dropped from it
// with the next settling. They are settled and synced, and when their path is used again they are continued behind their end.
// This relies on the router: the answer of one Deliver is committed, or Open is called, before Deliver is called again.
package storage
