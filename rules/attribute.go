package rules

import (
	"maps"
	"slices"

	"github.com/millrace-run/millrace/event"
)

// attribute is a context attribute, or received.
type attribute uint8

const (
	attrID attribute = iota
	attrSource
	attrType
	attrSubject
	attrTime
	attrDataContentType
	attrDataSchema
	attrReceived
)

var attributeNames = [...]string{"id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "received"}

func (a attribute) String() string { return attributeNames[a] }

// required says whether an event cannot be without it.
func (a attribute) required() bool { return a <= attrType }

// of is the place of the attribute's text. received has none.
func (a attribute) of(ev *event.Event) *string {
	return [...]*string{&ev.ID, &ev.Source, &ev.Type, &ev.Subject, &ev.Time, &ev.DataContentType, &ev.DataSchema}[a]
}

func attributeOf(name string) (attribute, bool) {
	i := slices.Index(attributeNames[:], name)
	return attribute(max(i, 0)), i >= 0
}

// collection is a set of named texts.
type collection uint8

const (
	collExt collection = iota
	collHeaders
	collQuery
	collParams
)

var collectionNames = [...]string{"ext", "headers", "query", "params"}

func (c collection) String() string { return collectionNames[c] }

func collectionOf(name string, s Scope) (collection, bool) {
	i := slices.Index(collectionNames[:], name)
	if s != IntakeScope && i > 0 {
		i = -1
	}
	return collection(max(i, 0)), i >= 0
}

func rootOf(name string, s Scope) (root, bool) {
	switch {
	case name == "data":
		return rootData, true
	case name == "body" && s == IntakeScope, name == "events" && s == DigestScope:
		return rootBody, true
	}
	return 0, false
}

// namesIn are the names of a scope, sorted.
func namesIn(s Scope) []string {
	names := append(slices.Clone(attributeNames[:]), "data", "ext")
	if s == IntakeScope {
		names = append(names, "headers", "query", "params", "body")
	}
	if s == DigestScope {
		names = append(names, "events")
	}
	slices.Sort(names)
	return names
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// validExtensionName says whether name may be the name of an extension attribute.
func validExtensionName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	if _, taken := attributeOf(name); taken && name != "received" {
		return false
	}
	return name != "" && name != "data" && name != "specversion"
}
