package email

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"mime"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/wneessen/go-mail"

	"github.com/millrace-run/millrace/rules"
)

// maxFileName bounds the name of an attachment, in bytes.
const maxFileName = 200

// attachment is one file of a mail. Its content is what the template yields; a template that begins with data:<type>;base64, as
// a data URL does, yields base64 and names the type.
type attachment struct {
	key     string // as the user wrote the name
	name    rules.Template
	content rules.Template
	skip    int // bytes before the content
	typ     string
	base64  bool
}

// file is an attachment of one event.
type file struct {
	name, typ string
	content   []byte
}

func checkAttachments(set map[string]rules.Template) ([]attachment, error) {
	var all []attachment
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(set)) {
		a, err := newAttachment(key, set[key])
		errs = append(errs, keyError("attachments."+key, err))
		all = append(all, a)
	}
	return all, errors.Join(errs...)
}

func newAttachment(key string, content rules.Template) (attachment, error) {
	a := attachment{key: key, content: content}
	var err error
	if a.name, err = rules.CompileTemplate(key, rules.Options{Scope: rules.DigestScope}); err != nil {
		return a, fmt.Errorf("the file name: %w", err)
	}
	if text, ok := a.name.Literal(); ok {
		if _, err := fileName(text); err != nil {
			return a, err
		}
	}
	begin := content.Prefix()
	if !strings.HasPrefix(strings.ToLower(begin), "data:") {
		return a, nil
	}
	head, _, ok := strings.Cut(begin, ",")
	if !ok {
		return a, errors.New("data: must be followed by a type and a comma in literal text, as in data:application/pdf;base64,{{ … }}")
	}
	a.skip = len(head) + 1
	a.typ = head[len("data:"):]
	if n := len(a.typ) - len(";base64"); n >= 0 && strings.EqualFold(a.typ[n:], ";base64") {
		a.typ, a.base64 = a.typ[:n], true
	}
	a.typ, err = checkType(a.typ)
	return a, err
}

// checkType reads a media type; empty is one too. What has parts of its own is refused: it would be taken for mail.
func checkType(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	base, parameters, err := mime.ParseMediaType(text)
	if err != nil || !strings.Contains(base, "/") || checkLine(text) != nil {
		return "", errors.New("the type behind data: is not valid")
	}
	if strings.HasPrefix(base, "multipart/") || strings.HasPrefix(base, "message/") {
		return "", fmt.Errorf("%s cannot be attached", base)
	}
	return mime.FormatMediaType(base, parameters), nil
}

// fileName refuses names that are none. Slashes become underscores, whoever saves the file.
func fileName(text string) (string, error) {
	text = strings.TrimSpace(text)
	if err := checkLine(text); err != nil {
		return "", fmt.Errorf("the file name: %w", err)
	}
	if strings.Trim(text, ".") == "" {
		return "", errors.New("the file name is empty")
	}
	if len(text) > maxFileName {
		return "", fmt.Errorf("the file name is longer than %d bytes", maxFileName)
	}
	return strings.NewReplacer("/", "_", `\`, "_").Replace(text), nil
}

func (a *attachment) render(in *rules.Input) (file, error) {
	name, err := a.name.Render(in)
	if err != nil {
		return file{}, fmt.Errorf("the file name: %w", err)
	}
	f := file{typ: a.typ}
	if f.name, err = fileName(name); err != nil {
		return file{}, err
	}
	text, err := a.content.Render(in)
	if err != nil {
		return file{}, err
	}
	f.content = []byte(text[a.skip:])
	if a.base64 {
		if f.content, err = decodeBase64(text[a.skip:]); err != nil {
			return file{}, err
		}
	}
	if f.typ == "" {
		f.typ = typeOf(f)
	}
	return f, nil
}

// typeOf goes by the name's suffix, then by whether the content is text.
func typeOf(f file) string {
	if t := mime.TypeByExtension(path.Ext(f.name)); t != "" && !strings.HasPrefix(t, "message/") && !strings.HasPrefix(t, "multipart/") {
		return t
	}
	if utf8.Valid(f.content) {
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// decodeBase64 reads both alphabets, with or without padding and line breaks.
func decodeBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "", "-", "+", "_", "/", "=", "").Replace(text)
	content, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("the content is not base64")
	}
	return content, nil
}

// header gives the part its headers. The name is written as RFC 2231 has it, which go-mail by itself does not do.
func (f file) header(part *mail.File) {
	part.Header.Set("Content-Type", f.typ)
	part.Header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.name}))
}
