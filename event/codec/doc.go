// Package codec turns events into bytes and bytes into events: the CloudEvents 1.0 JSON format, its batches, and the binary,
// structured and batched modes of the HTTP binding. It is the only home of the CloudEvents SDK.
//
// What was received is what is kept. Attribute text is not reformatted, JSON data keeps its bytes as they stood, numbers keep
// their digits. Everything that comes from outside is checked on the way in: an event that a Decode or Read function
// returns satisfies Validate.
//
// JSON is exactly one value of RFC 8259 in UTF-8. Where that text leaves a choice, this package decides:
//   - of repeated members the first counts; the others must be valid JSON and are otherwise ignored
//   - an escape of half a surrogate pair ("\ud800") is kept in data, whose bytes nobody rewrites, and refused in an
//     attribute, where the specification forbids it
//   - a byte order mark is refused
//   - nesting is bounded by the caller
//
// The hot path works on event.Event itself; docs/decisions/0001-compact-event.md has the measurements behind that. ToSDK and
// FromSDK are the edge to code that speaks the SDK's type.
package codec
