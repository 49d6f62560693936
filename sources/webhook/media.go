package webhook

import "strings"

// mediaKind is a media type in lower case, without parameters.
func mediaKind(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// isMediaType says whether s is type/subtype, with or without parameters.
func isMediaType(s string) bool {
	major, minor, ok := strings.Cut(mediaKind(s), "/")
	return ok && isToken(major) && isToken(minor) && minor != "*"
}

// isMediaRange is isMediaType for a setting: no parameters, and type/* is all of a type.
func isMediaRange(s string) bool {
	major, minor, ok := strings.Cut(s, "/")
	return ok && isToken(major) && isToken(minor) && major != "*"
}

// inMediaRange says whether kind is the media type accepted, or of the type if accepted ends with /*. Both are in lower case.
func inMediaRange(kind, accepted string) bool {
	major, minor, _ := strings.Cut(accepted, "/")
	return kind == accepted || (minor == "*" && strings.HasPrefix(kind, major+"/"))
}

// isToken says whether s is a token of RFC 9110.
func isToken(s string) bool {
	for i := range len(s) {
		b := s[i]
		if b <= ' ' || b > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, b) >= 0 {
			return false
		}
	}
	return s != ""
}

// isNDJSON says whether a content type means one JSON value a line. None of the names is registered; these are in use.
func isNDJSON(contentType string) bool {
	switch mediaKind(contentType) {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl", "application/jsonlines",
		"application/x-jsonlines", "application/json-lines", "text/x-ndjson":
		return true
	}
	return false
}
