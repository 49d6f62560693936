package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

// sendFlags are the flags of the command send.
type sendFlags struct {
	data, file, contentType string
	url                     string
	params, headers         []string
	cloudEvent              bool
	id                      string
	eventType               string
	source, subject         string
	extensions              []string
}

func (c *command) sendCommand() *cobra.Command {
	f := &sendFlags{}
	cmd := &cobra.Command{
		Use:   "send PIPELINE [-]",
		Short: "Post to the webhook of a pipeline, and print the ids of the events",
		Long: `Posts data to the webhook of a pipeline: that of --data, of --file, or of standard input with -. Where the webhook is comes
from the file. It is a plain post, unless a flag of CloudEvents is given. A file of lines (.ndjson) is an event a line.`,
		Example: "  millrace send orders --data '{\"id\":\"o-1\",\"total\":120}'\n" +
			"  millrace send orders --file orders.ndjson --id import-7\n" +
			"  millrace send orders --param shop=north --type shop.order.created --file order.json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 || len(args) == 2 && args[1] != "-" {
				return errors.New("name one pipeline, and - behind it to read standard input")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"type", "source", "subject", "ext"} {
				f.cloudEvent = f.cloudEvent || cmd.Flags().Changed(name)
			}
			return c.send(cmd.Context(), args, f, cmd.Flags().Changed("data"))
		}),
	}
	c.configFlags(cmd)
	c.outputFlag(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.data, "data", "d", "", "the data itself")
	flags.StringVarP(&f.file, "file", "f", "", "file of the data; - is standard input")
	flags.StringVar(&f.contentType, "content-type", "", "of the data; else it follows from the file's name, or from the data")
	flags.StringVar(&f.url, "url", "", "where Millrace takes webhooks, such as http://127.0.0.1:8080; else http.listen of the file")
	flags.StringArrayVar(&f.params, "param", nil, "name=value, for a {name} in the webhook's path")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "name=value, a further header")
	flags.StringVar(&f.id, "id", "", "id of the event: sent as Idempotency-Key, or as the id of a CloudEvent")
	flags.BoolVar(&f.cloudEvent, "cloudevent", false, "send a CloudEvent; so do the four flags below")
	flags.StringVar(&f.eventType, "type", "", "type of the CloudEvent")
	flags.StringVar(&f.source, "source", "", "source of the CloudEvent (/millrace/send)")
	flags.StringVar(&f.subject, "subject", "", "subject of the CloudEvent")
	flags.StringArrayVar(&f.extensions, "ext", nil, "name=value, an extension of the CloudEvent")
	flags.SortFlags = false
	return cmd
}

func (c *command) send(ctx context.Context, args []string, f *sendFlags, hasData bool) error {
	address, err := c.sendAddress(args[0], f)
	if err != nil {
		return err
	}
	post, err := f.post()
	if err != nil {
		return err
	}
	name := f.file
	if post.Data, err = c.sendData(ctx, args, f, hasData); err != nil {
		return err
	}
	if post.ContentType == "" {
		post.ContentType = app.ContentTypeOf(name, post.Data)
	}
	posts := post.Divide()
	if len(posts) == 0 {
		return &exit{exitUsage, errors.New("there is no line in the data")}
	}
	sender := app.NewSender()
	defer sender.Close()
	var ids []string
	for _, p := range posts {
		some, failed := sender.Send(ctx, address, p)
		ids = append(ids, some...)
		if failed != nil {
			err = sendError(ctx, failed, address, len(ids))
			break
		}
		if c.output != "json" {
			say(c.out, "%s", lines(some))
		}
	}
	if c.output == "json" {
		return errors.Join(err, printIDs(c.out, ids))
	}
	return err
}

// sendAddress needs only the source of one pipeline, so that the variables of sinks need not be set here.
func (c *command) sendAddress(pipeline string, f *sendFlags) (string, error) {
	base := ""
	if f.url != "" {
		u, err := adminURL(f.url)
		if err != nil {
			return "", &exit{exitUsage, fmt.Errorf("--url: %w", err)}
		}
		base = u.String()
	}
	params, err := pairs("--param", f.params)
	if err != nil {
		return "", err
	}
	source := c.source()
	source.AllowUnset = true
	plan, report := app.Load(source)
	if plan == nil {
		say(c.err, "%s", report.Text())
		return "", &exit{exitFailure, fmt.Errorf("%s does not tell where the webhook is: %d to correct", c.config, report.Errors())}
	}
	address, err := app.WebhookURL(plan, pipeline, base, params)
	if err != nil {
		return "", &exit{exitUsage, err}
	}
	return address, nil
}

// post is what the flags say about the data.
func (f *sendFlags) post() (app.Post, error) {
	p := app.Post{
		ContentType: f.contentType, CloudEvent: f.cloudEvent, ID: f.id, Type: f.eventType, Source: f.source, Subject: f.subject,
		Header: http.Header{},
	}
	if f.cloudEvent && f.eventType == "" {
		return p, &exit{exitUsage, errors.New("a CloudEvent needs --type")}
	}
	headers, err := pairs("--header", f.headers)
	if err != nil {
		return p, err
	}
	for name, value := range headers {
		if !isHeader(name, value) {
			return p, &exit{exitUsage, fmt.Errorf("--header %q: that is not the name of a header, or the value has a control character in it", name)}
		}
		p.Header.Set(name, value)
	}
	p.Extensions, err = pairs("--ext", f.extensions)
	return p, err
}

// isHeader says whether HTTP can carry a header.
func isHeader(name, value string) bool {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return strings.Trim(name, token) == "" && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

func (c *command) sendData(ctx context.Context, args []string, f *sendFlags, hasData bool) ([]byte, error) {
	fromInput := len(args) == 2 || f.file == "-"
	switch {
	case hasData && f.file != "" || len(args) == 2 && (hasData || f.file != ""):
		return nil, &exit{exitUsage, errors.New("give the data once: with --data, with --file or with -")}
	case hasData:
		return []byte(f.data), nil
	case f.file != "" && !fromInput:
		return os.ReadFile(f.file)
	case !fromInput:
		return nil, &exit{exitUsage, errors.New("there is no data: give --data, --file, or - for standard input")}
	}
	return heed(ctx, func() ([]byte, error) { return io.ReadAll(c.in) })
}

// pairs reads name=value.
func pairs(flag string, given []string) (map[string]string, error) {
	all := map[string]string{}
	for _, g := range given {
		name, value, ok := strings.Cut(g, "=")
		if _, twice := all[name]; !ok || name == "" || twice {
			return nil, &exit{exitUsage, fmt.Errorf("%s %q: give name=value, each name once", flag, g)}
		}
		all[name] = value
	}
	return all, nil
}

// sendError gives an error its exit code, and says what was accepted before it.
func sendError(ctx context.Context, err error, address string, accepted int) error {
	code := exitUsage // the post itself is wrong
	var refused *app.RefusedError
	var unreachable *app.UnreachableError
	switch {
	case ctx.Err() != nil:
		code, err = exitFailure, fmt.Errorf("%w, and there was no answer yet", context.Cause(ctx))
	case errors.As(err, &refused):
		code = exitFailure
	case errors.As(err, &unreachable) && inDoubt(unreachable):
		code = exitUnreachable
		const advice = "what was posted may be accepted all the same, so look before you send it again"
		err = fmt.Errorf("%s gave no whole answer: %w; %s", address, err, advice)
	case errors.As(err, &unreachable):
		code = exitUnreachable
		err = fmt.Errorf("no Millrace reached at %s: %w; start it with millrace run or millrace dev, or say with --url where it is", address, err)
	}
	if accepted > 0 {
		err = fmt.Errorf("%w (before that %s accepted)", err, plural(accepted, "event"))
	}
	return &exit{code, err}
}

// inDoubt says whether a post may have been accepted though there is no answer: a connection was there, and broke or went silent.
func inDoubt(err *app.UnreachableError) bool {
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	return !dialing && errors.Unwrap(err.Err) != nil // an answer of something else has no cause
}

func lines(ids []string) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(id + "\n")
	}
	return b.String()
}

func printIDs(w io.Writer, ids []string) error {
	rows := make([]map[string]string, len(ids))
	for i, id := range ids {
		rows[i] = map[string]string{"id": id}
	}
	return json.NewEncoder(w).Encode(rows)
}
