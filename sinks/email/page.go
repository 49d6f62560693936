package email

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"regexp"
	"strings"

	"github.com/millrace-run/millrace/rules"
)

// page is the HTML of a mail. html/template knows where in the markup each expression stands, and escapes its value for that
// place: text, an attribute, a URL. What an expression yields is never markup.
type page struct {
	source   rules.Template
	escaped  *htmltemplate.Template
	comments []any
}

// The delimiters of the translated template. They cannot be in the text, which is checked for control characters.
const (
	openAction  = "\x01"
	closeAction = "\x02"
)

// unsafeURL is what html/template writes in place of a URL whose scheme could run a script, among others.
const unsafeURL = "ZgotmplZ"

// conditional finds the comments that Outlook reads. html/template drops every comment, and mails are laid out with these.
var conditional = regexp.MustCompile(`(?s)<!--\[if[^\]]*\]><!-->|<!--<!\[endif\]-->|<!--\[if[^\]]*\]>.*?<!\[endif\]-->`)

// compilePage refuses expressions in scripts, styles, comments, and names of tags and attributes: no mail program runs the first,
// and escaping could not keep the others from changing what the mail looks like.
func compilePage(source rules.Template) (*page, error) {
	text, holes, err := skeleton(source)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(text, openAction+closeAction+"\x00") {
		return nil, errors.New("there is a control character in it")
	}
	p := &page{source: source}
	var fault error
	text = conditional.ReplaceAllStringFunc(text, func(comment string) string {
		if strings.Contains(comment, "{{") {
			fault = errors.New("an expression stands in a comment")
		}
		p.comments = append(p.comments, htmltemplate.HTML(comment)) //nolint:gosec // literal text of the file, not of an event
		return fmt.Sprintf("%sindex . %d%s", openAction, holes+len(p.comments)-1, closeAction)
	})
	if fault != nil {
		return nil, fault
	}
	for i := range holes {
		text = strings.Replace(text, hole(i), fmt.Sprintf("%sindex . %d%s", openAction, i, closeAction), 1)
	}
	return p, p.compile(text, holes)
}

func (p *page) compile(text string, holes int) error {
	t, err := htmltemplate.New("html").Delims(openAction, closeAction).Parse(text)
	if err != nil {
		return pageError(err)
	}
	p.escaped = t
	// The first execution finds the context of every expression. An empty value is as good as any other for that.
	if err := t.Execute(io.Discard, p.values(make([]string, holes))); err != nil {
		return pageError(err)
	}
	escaped := t.Tree.Root.String()
	switch {
	case strings.Contains(escaped, "_html_template_commentescaper"):
		return errors.New("an expression stands in a comment, where its value would be lost")
	case strings.Contains(escaped, "_html_template_js"):
		return errors.New("an expression stands in a script, which no mail program runs")
	case strings.Contains(escaped, "_html_template_css"):
		return errors.New("an expression stands in a style: choose between classes or whole parts instead")
	case strings.Contains(escaped, "_html_template_htmlnamefilter"):
		return errors.New("an expression stands in the name of a tag or an attribute")
	}
	return nil
}

// pageError says what html/template found in words that fit here: it speaks of templates, and quotes what we made of the text.
func pageError(err error) error {
	var e *htmltemplate.Error
	if !errors.As(err, &e) {
		return errors.New("the markup cannot be read")
	}
	what := strings.NewReplacer(openAction, "{{ ", closeAction, " }}").Replace(e.Description)
	if e.Line > 0 {
		return fmt.Errorf("line %d: %s", e.Line, what)
	}
	return errors.New(what)
}

func (p *page) values(rendered []string) []any {
	all := make([]any, 0, len(rendered)+len(p.comments))
	for _, s := range rendered {
		all = append(all, s)
	}
	return append(all, p.comments...)
}

// render fills the page in. A value that has no safe form at its place is an error, not a broken link in somebody's mail.
func (p *page) render(in *rules.Input) (string, error) {
	var values []string
	found := strings.Count(p.source.String(), unsafeURL)
	if _, err := p.source.RenderEscaped(in, func(s string) string {
		found += strings.Count(s, unsafeURL)
		values = append(values, strings.ToValidUTF8(s, "\uFFFD"))
		return ""
	}); err != nil {
		return "", err
	}
	var b strings.Builder
	if err := p.escaped.Execute(&b, p.values(values)); err != nil {
		return "", errors.New("the markup cannot be filled in")
	}
	if strings.Count(b.String(), unsafeURL) > found {
		return "", errors.New("a value is no safe URL for its place: only http, https, mailto and relative ones are")
	}
	return b.String(), nil
}
