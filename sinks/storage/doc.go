// Package storage appends events to local files, each event exactly once, and closes, packs and removes them as it is told.
//
// # State
//
// For each file that the sink writes, its state holds a mark under the absolute path that the template gave: the file's name,
// device and inode, the settled length, a hash of the last 256 bytes before that length, its form, and when it was begun and
// written last. What is before the settled length is complete and synced. What is behind it is nobody's: the sink cuts it off. A
// file's name differs from its path only by a number, if the path was taken (archive.1.ndjson).
//
// A mark is committed in two ways: by save, once, before the first byte is written to a file; and with the settling of the events
// that made it longer. So no byte is ever written to a file of which the state does not know where it began, and no byte
// that the sink did not write is ever cut.
//
// # One delivery
//
// First it closes the files whose time has come, as below. Then, for up to 254 files at a time:
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
// Finish saves that the sink has ended in order: nothing of its own is behind a settled length. The next Open then cuts nothing,
// takes in what others added meanwhile, and takes that word back in one save, before anything is written. A crash before that save
// leaves the files as they are, and the word in the state; one behind it is like any other.
//
// A write or sync that fails is a crash in 5 or 6 that the process survives: the file is cut at once, or if that fails too before
// its next write, and its events are Unavailable. A failed sync is not repeated; the bytes are cut off and written anew.
// When save fails it may have been committed nevertheless: the file has no line yet, so both are the same.
//
// # Closing
//
// A file is closed when all that was answered is committed, before a delivery or, where there is none, by Tend. So it holds
// settled lines and nothing else. An array of JSON gets its end. Then the state has it as a closed file, under a key of its own,
// and no open file at its path.
//
//  1. look at the file as in a delivery, write the end of an array, sync it; choose names that nothing has
//  2. save: no open file at the path, and a closed one with the place where it stands, its name, inode, length and hash
//  3. rename it, sync the folder
//  4. forget it with the next changes, or hand it to the keeper, which packs it and counts it
//
// A path whose closed file is not renamed yet takes no lines. Where nothing is packed and rotate is not set (an array, or keep
// alone) a closed file keeps its name, and what comes later for its path goes into a numbered file. No closed file is ever
// continued, whatever paths events ask for: neither one in the state nor one whose name has the form of a time.
//
//	crash          on disk                           in the state   after Open
//	in 1           perhaps the end of an array       open           cut to its length, closed again
//	in 2, before   as above                          open           as above
//	in 2, after    under its old name                closed         renamed
//	in 3           under the old name or the new one closed         renamed, or found there; the folder is synced
//	in 4           under the new name                closed         found there, handed on again
//
// When the save of 2 fails it may be committed nevertheless. Then nothing is delivered until the sink is opened again with what was
// committed. An old name is looked at only as long as no open file of the state stands there: before that nothing new can.
//
// # Packing
//
// The keeper packs closed files one after the other, in a goroutine beside the deliveries that lives from the first Open to
// Close. It changes keys of closed files only, so that it never meets the changes of a delivery, and what it knows of them is
// newer than what an Open in the same process is given.
//
//  1. write .name.zst.partial, whatever was there, and sync it
//  2. save the inode and size of it; from here on the old place of the plain file is forgotten
//  3. rename it to name.zst, sync the folder
//  4. remove the plain file, sync the folder
//  5. save that it is done, or forget it
//
// A crash leaves behind:
//
//	crash          on disk                           in the state   after Open
//	in 1           plain, perhaps a part             closed         begun again
//	in 2, before   plain and all of the other        closed         begun again
//	in 2, after    plain and all of the other        packed         renamed
//	in 3, 4        plain and packed, or one of them  packed         found by inode and size, the plain one removed
//	in 5           packed                            packed         found, done
//
// Readers who take name.zst when it is there and the plain file when it is not see each line once at any time. What keep counts is
// no longer looked for at its old place, once that is saved. What it removes is removed and the folder synced before it is
// forgotten. Only files of the state are removed, and only if inode, length and last bytes are still theirs.
//
// # Files that others touch
//
// A file at the path that the state does not know is continued behind its end. A file in the state that is shorter than settled,
// is another inode, or has other bytes where the settled ones end, is left alone and reported: the path gets a new file under its
// own name if that is free or an empty file, else under the first free number. The same happens while the sink runs. A file that
// somebody made longer is continued behind that, while the sink runs and at a start behind an end in order. Behind a crash nothing
// tells it from an unsettled line, and it is cut: the lines that come again may differ from those that were written, and a loss of
// power leaves anything where bytes were not synced. Device numbers may change when a machine starts: the inode and the hash
// decide, the device only of a file without settled bytes. Programs that move files away and make new ones work; those that copy
// and truncate do too, but what is written between the two is theirs to lose.
//
// A closed file that somebody touched is left alone: not packed, not removed, forgotten.
//
// # Clocks
//
// The time in a closed file's name is later than that in any name before, so names sort and differ whatever the clock does. Age
// counts by the clock: where it was set back, from the next write or start, or for keep from the next look.
//
// # Bounds
//
// At most 256 descriptors are open, three of them by the keeper. When the state has more than max_files open files, a quarter of
// them, those that were not used for longest or are lost, is closed at the next delivery. Where files are never closed they are
// dropped from the state with the next settling: they are settled and synced, and when their path is used again they are continued
// behind their end. The files of one batch may lead over the bound. Of closed files that keep counts, those beyond max_files are
// forgotten and stay. While more than max_files wait to be packed, nothing is delivered. All this relies on the router: the answer
// of one Deliver is committed, or Open is called, before Deliver or Tend is called again.
package storage
