// Package s3 stores events as objects in Amazon S3 and in stores that speak its protocol, each event in exactly one object.
//
// # One delivery
//
// The router gathers events up to the settings size and age and delivers them at once. Events under one prefix become one object.
//
//  1. give each event its object: one that the state names for it (a pin), or a new one under its prefix
//  2. encode the objects, and save the pins of the new ones, all at once: the key, and who its members are
//  3. abort what an earlier attempt at a multipart upload may have left under the keys of old pins
//  4. upload the objects, a few side by side, each under the key of its pin
//  5. when all are stored, answer success and the end of the pins; the router commits both together
//
// If any object fails, nothing is settled, and all events come again. What this process has stored already is not sent once more.
//
// # Identity
//
// A member is the delivery's idempotency key, which is the same at every attempt and after every restart. Two events with the
// same source and id have the same one, so a pin counts: it takes as many deliveries with a key as it had. Which of two such
// events comes into which object makes no difference, each is in one.
//
// A key is the prefix, the time at which the first member was accepted, the number of the object in the life of this sink, and a
// hash of the members: orders/20260102T150405.123Z-0000000042-9f86d081884c7d65.ndjson. The number keeps two objects with equal
// members apart. The time and the hash keep apart what two sinks, or one whose outbox was made anew or restored, put
// under one prefix.
//
// # Crashes
//
// What a crash leaves behind, and what happens next. Events that were not settled are delivered again in every case, perhaps in
// another batch: with more of them, fewer, or changed by stages that were corrected meanwhile.
//
//	crash          in the store                        in the state   next delivery
//	before 2       nothing                             no pin         begins from the front
//	in 2, before   nothing                             no pin         the same
//	in 2, after    nothing                             the pin        the object is made, under the pin's key
//	in 3, 4        nothing, the object, or parts       the pin        the parts are aborted, the object is replaced as a whole
//	in 5, before   the object                          the pin        the object is replaced as a whole
//	in 5, after    the object                          no pin         the events are settled
//
// An object that is made again may have fewer members than its pin: others were filtered, or come in a later batch. It replaces
// the old one, so that whoever comes later is not in it any more and goes into an object of its own. A pin of whose
// members none came is kept for a later batch.
//
// An upload that failed in this process is a crash in 4. That includes one which the store completed and did not confirm: the same
// bytes go to the same key again. An upload that the store carries out long after it was given up on would bring the old object
// back. That is harmless while batch and stages are the same, as they are within one process.
//
// # Bounds
//
// In memory there are the events of a batch and their objects, about twice the setting size. A pin has 16 bytes for each member.
// Pins whose members never come again, because somebody moved the subscription past them, are forgotten, the oldest first, when
// together they have more than 65,536 members.
package s3
