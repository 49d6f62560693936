package pipelines

import "slices"

// The codes of diagnostics. A code never changes its meaning; new ones are added at the end.
const (
	codeUnreadable   = "E0101"
	codeUnknownKey   = "E0102"
	codeExpression   = "E0103"
	codeSyntax       = "E0104"
	codeLimit        = "E0105"
	codeEncoding     = "E0106"
	codeTab          = "E0107"
	codeDocuments    = "E0108"
	codeEmpty        = "E0109"
	codeDuplicate    = "E0110"
	codeMissing      = "E0111"
	codeType         = "E0112"
	codeRange        = "E0113"
	codeValue        = "E0114"
	codeOneType      = "E0115"
	codeName         = "E0116"
	codeTwice        = "E0117"
	codeUnset        = "E0118"
	codeReference    = "E0119"
	codeSecretFile   = "E0120"
	codeInExpression = "E0121"
	codeTrapBraces   = "E0122"
	codeTrapStart    = "E0123"
	codeTrapQuote    = "E0124"
	codeTrapHash     = "E0125"
	codeTrapColon    = "E0126"
	codeTrapFlow     = "E0127"
	codeTag          = "E0128"
	codeAlias        = "E0129"
	codeMerge        = "E0130"
	codeSetting      = "E0131"
	codeAddress      = "E0132"
	codeAdmin        = "E0133"
	codePath         = "E0134"
	codeNotHere      = "E0135"
	codeConstant     = "E0136"
	codePublic       = "E0137"
	codeNoSuch       = "E0138"
	codeOpen         = "E0139"
)

// Codes returns the codes of all diagnostics, sorted.
func Codes() []string {
	codes := make([]string, 0, len(explanations))
	for code := range explanations {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	return codes
}

// Explain says in a paragraph what a code means and what to do about it. false: there is no such code.
func Explain(code string) (string, bool) {
	text, ok := explanations[code]
	return text, ok
}

// explanations is what `millrace docs CODE` prints.
var explanations = map[string]string{
	codeUnreadable: `The file or folder given with -c cannot be read: it does not exist, its permissions forbid it, or a
folder holds no file that ends in .yaml or .yml. Files that end in _test.yaml or begin with a dot
are passed over, and so are folders within the folder.`,

	codeUnknownKey: `A key is not valid where it stands. The message names the nearest valid key and all others. Often
the key is right but one level too high or too low: the settings of a type (such as url) stand below
its name (http), what every sink has (such as retry) stands beside it. A key that this version does
not have is refused, never accepted and ignored.`,

	codeExpression: `An expression or a template does not compile: a name or function that does not exist, a slip of the
grammar, or an env("NAME") whose variable is not set. The caret points at the place within the
expression. Expressions see the event as id, source, type, subject, time, datacontenttype,
dataschema, ext.<name>, data and received.`,

	codeSyntax: `The file is not YAML. The parser stops at the first such place, so the cause may stand a line
earlier: look at the indentation, at quotes and brackets that are not closed, and at values that
contain a colon followed by a space. A value with unusual punctuation belongs in single quotes.`,

	codeLimit: `The file is larger than a configuration needs to be: more than 1 MiB, 20,000 keys or 64 levels
within each other, or its aliases repeat more than 10,000 values. The bounds protect against files
that are there by mistake or to do harm. A large configuration may be split: -c takes a folder,
whose files are read together.`,

	codeEncoding: `The file holds something that is not text in UTF-8: bytes of another encoding, UTF-16, or a control
character. Save it as UTF-8. A byte order mark at the beginning and Windows line ends are accepted.`,

	codeTab: `A line is indented with a tab. YAML allows spaces only, because a tab has no width that all programs
agree on. Replace each tab at the beginning of a line by two spaces; most editors have a command for
it.`,

	codeDocuments: `The file holds a second YAML document, after a line ---. One file holds one document, because it
would not be clear which of two settings counts. Put the second into a file of its own and give -c
the folder.`,

	codeEmpty: `The file holds nothing but white space and comments. A file needs at least a part of a
configuration, and all files together at least one pipeline with a source and a sink.`,

	codeDuplicate: `A key stands twice in the same map, or a key of the whole configuration (such as outbox) stands in
two files of a folder. YAML programs would silently take one of the two. The message names both
places; remove one.`,

	codeMissing: `Something that is needed is not there: a key without which a component cannot work, a pipeline's
source, its sinks, or the pipelines themselves. The place is the key around what is missing.`,

	codeType: `A value is of another kind than its key takes: text where a duration is expected, a single value
where a map belongs, nothing at all. Durations have a unit (90s, 1h30m, 7d), sizes are bytes or have
a unit (10MiB, 2GB), true and false and numbers stand without quotes. This is YAML 1.2: yes, no, on
and off are text, and 010 is ten.`,

	codeRange: `A number, duration or size is outside of what its key accepts. The message names the bounds.`,

	codeValue: `The key takes one of a few words, and this is none of them. The message names those that are valid.`,

	codeOneType: `A source, a stage, a sink and the outbox have exactly one type, which is a key of its own: http: { …
} or storage: { … }. Here is none, or there are two. To send events to two places, write two sinks.`,

	codeName: `Names of pipelines, stages and sinks appear in commands, logs, metrics and in the outbox. They begin
with a letter or digit and have up to 63 letters, digits, underscores and hyphens.`,

	codeTwice: `Two things have the same name or claim the same resource: two pipelines of one name (also in two
files), two stages of one name in a pipeline, two webhooks on one path, two storage sinks that write
to one file. The message names both places.`,

	codeUnset: `A ${NAME} refers to a variable that is not set in the environment. Set it, or give a default:
${NAME:-default}. To check a file where the variables are not known, such as in CI, use
--allow-unset.`,

	codeReference: `A ${ is not followed by something that can be replaced. The forms are ${NAME}, ${NAME:-default} and
${file:/path}. NAME has letters, digits and underscores and does not begin with a digit. To write
the two characters ${ themselves, write $${.`,

	codeSecretFile: `The file of a ${file:/path} cannot be read. A relative path starts at the working directory of the
process. The content is taken as it is, without one line end at its end.`,

	codeInExpression: `A ${…} stands inside an expression. There it is not replaced, because the value would become a part
of the program: a quote in it would change the expression. Write env("NAME") instead, which is the
value as text.`,

	codeTrapBraces: `A value begins with {{ and has no quotes. YAML takes { for the beginning of a map, so the template
never arrives. Put the value in quotes: to: '{{ data.email }}', or write it as a block: after | on
the lines below.`,

	codeTrapStart: `A value begins with a character that has a meaning of its own in YAML: ! begins a tag, * an alias, &
an anchor, [ a list, { a map, and @ and the backtick are reserved. So the value would arrive changed
or not at all. Put it in single quotes: filter: '!data.paid', or write it as a block after |.`,

	codeTrapQuote: `A value begins with a quote, which YAML ends at the next quote, and then goes on: filter: 'a' ==
data.x. Put the whole value in single quotes and write each ' in it twice, or use double quotes
inside: filter: '"a" == data.x'. A block after | needs no quotes at all.`,

	codeTrapHash: `Within a value without quotes, a # after a space begins a comment, and what follows is not a part of
the value. Here that cuts an expression in the middle. Put the expression in single quotes, or write
it as a block after |.`,

	codeTrapColon: `A value without quotes contains a colon followed by a space, which YAML takes for the end of a key:
filter: data.a ? data.b : data.c. Put the value in single quotes, or write it as a block after |.`,

	codeTrapFlow: `Within { } and [ ], YAML takes every comma, colon and bracket for its own: { total: max(1, 2) }
would be cut at the comma, and ${NAME} or items[0] at the bracket. Put the value in quotes, or write
the map over several lines without { }.`,

	codeTag: `A value has a YAML tag, such as !!str or !include. Tags have no meaning here and would be ignored,
so they are refused. Text that begins with ! belongs in single quotes.`,

	codeAlias: `An alias *name refers to an anchor &name that does not stand above it in the same file, or to one
that it is a part of. Where the * is meant as text, put the value in single quotes.`,

	codeMerge: `The merge key << is a custom of YAML 1.1 that YAML 1.2 does not have, and programs differ in what it
does. An alias for a whole value is accepted: retry: *slow.`,

	codeSetting: `The component refused a setting: it has the right form, but does not make sense, such as a URL
without a host. The message is the component's own.`,

	codeAddress: `An address to listen on is host:port, where the host is an IP address or a name and may be empty for
every interface, and the port is a number. IPv6 addresses stand in brackets: [::1]:8080. Two
listeners need two addresses.`,

	codeAdmin: `The admin address can be reached from other machines. Whoever reaches it can redrive dead letters
and see errors, so a token is required beyond loopback, and this version has none. Listen on
127.0.0.1 or ::1, and reach it through a tunnel or a proxy that asks who is there.`,

	codePath: `The path of a set or remove stage cannot be written: it names no attribute of an event and does not
begin with data or ext, or two paths contradict each other. Paths look like data.total,
data.customer.name, subject or ext.region.`,

	codeNotHere: `The key is valid, but has no effect together with what stands beside it, so it is refused instead of
being ignored.`,

	codeConstant: `The expression of a filter or drop stage is the constant true or false, so the stage keeps or drops
every event. That is allowed and sometimes meant for a while; it is only a warning.`,

	codePublic: `A secret stands in the file as it is, and everyone on this machine can read the file. Use ${NAME} or
${file:/path}, or take the right to read away from others: chmod o-r. It is only a warning.`,

	codeNoSuch: `A test names something that is not there: a pipeline that no file has, or a sink or stage that its
pipeline does not have. A test of what does not exist would pass whatever happens, so it is refused.`,

	codeOpen: `Workers take events from this sink over http.listen, and everyone who reaches that address could take
and acknowledge them, which is as good as deleting them. So beyond loopback a token is required; workers
send it as Authorization: Bearer.`,
}
