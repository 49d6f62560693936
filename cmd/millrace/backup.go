package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/millrace-run/millrace/app"
)

func (c *command) backupCommand() *cobra.Command {
	f := &finder{command: c}
	cmd := &cobra.Command{
		Use:   "backup TO",
		Short: "Copy the outbox to one file, also while it is in use",
		Long: `Copies the outbox as it is at one commit: of a running instance, which goes on meanwhile, or of one that does not run. The file
is checked, every event of it, and synced before it gets its name, and it takes the place of nothing. A running instance needs as much
room beside its outbox as that has; the copy is sent to this command, which writes the file.`,
		Example: "  millrace backup /backups/millrace-2026-11-20.db",
		Args:    cobra.ExactArgs(1),
		RunE:    action(func(cmd *cobra.Command, args []string) error { return f.backup(cmd.Context(), args[0]) }),
	}
	f.flags(cmd)
	return cmd
}

// saved is what -o json says of a backup or a restore.
type saved struct {
	Path    string `json:"path"`
	Commits int64  `json:"commits"` // number of the last one
	Events  int64  `json:"events"`
	Bytes   int64  `json:"bytes"`
	Schema  int64  `json:"schema"`
	Aside   string `json:"aside,omitempty"`
}

func savedAs(path string, r *app.Condition) saved {
	return saved{Path: path, Commits: r.Commits, Events: r.Events, Bytes: r.Bytes, Schema: r.Schema}
}

func (f *finder) backup(ctx context.Context, to string) error {
	running, plan, err := f.find(ctx)
	if err != nil {
		return err
	}
	bar := f.progress()
	var report *app.Condition
	if plan == nil {
		report, err = app.SaveBackup(ctx, to, func(file *os.File) error { return running.backup(ctx, file, bar.show) })
	} else if report, err = app.BackupOffline(ctx, plan, to, bar.show); err != nil {
		err = running.notOpen(err)
	}
	bar.end()
	if err != nil {
		return err
	}
	if f.output == "json" {
		return rows(f.command, savedAs(to, report))
	}
	say(f.out, "%s has %d events up to commit %d, %s, all of it checked\n", to, report.Events, report.Commits, mebibytes(report.Bytes))
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// progress shows on a terminal how far a copy is.
func (c *command) progress() *progress { return &progress{command: c, on: isTerminal(c.err), told: -1} }

type progress struct {
	*command
	on   bool
	told int64 // percent
}

func (p *progress) show(done, total int64) {
	if percent := 100 * done / max(1, total); p.on && percent != p.told {
		p.told = percent
		say(p.err, "\r%3d %% of %s", percent, mebibytes(total))
	}
}

func (p *progress) end() {
	if p.told >= 0 {
		say(p.err, "\n")
	}
}

// backup writes what a running instance copies. Its interim answers tell how far it is before anything comes.
func (r *remote) backup(ctx context.Context, to io.Writer, show app.Progress) error {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		var done, total int64
		if n, _ := fmt.Sscanf(h.Get(app.ProgressHeader), "%d/%d", &done, &total); n == 2 {
			show(done, total)
		}
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url.String()+"/api/v1/backup", http.NoBody)
	if err != nil {
		return err
	}
	res, err := r.client.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = errNobody
		}
		return r.unreachable(err)
	}
	defer res.Body.Close()
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); res.StatusCode != http.StatusOK || kind != app.BackupType {
		return r.decode(res, nil)
	}
	n, err := io.Copy(to, res.Body)
	if err == nil && n != res.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("after %d of %d bytes from %s: %w", n, res.ContentLength, r.url, err)
	}
	return nil
}

func (c *command) restoreCommand() *cobra.Command {
	f := &finder{command: c}
	force := false
	cmd := &cobra.Command{
		Use:   "restore FROM",
		Short: "Put a backup in the place of the outbox",
		Long: `Puts a copy of a backup where the file of pipelines says that the outbox is, while no instance runs. The copy is checked first; an
outbox that is there stays, unless --force moves it aside, under a name that is printed. What was pending when the backup was made is
delivered, also what was delivered since: see "Back up and restore" in docs/how-to.md.`,
		Example: "  millrace restore /backups/millrace-2026-11-20.db",
		Args:    cobra.ExactArgs(1),
		RunE:    action(func(cmd *cobra.Command, args []string) error { return f.restore(cmd.Context(), args[0], force) }),
	}
	f.configFlags(cmd)
	f.outputFlag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "move an outbox that is there aside")
	return cmd
}

func (f *finder) restore(ctx context.Context, from string, force bool) error {
	plan, err := f.plan()
	if err != nil {
		return err
	}
	bar := f.progress()
	r, err := app.Restore(ctx, plan, from, force, bar.show)
	bar.end()
	if err != nil {
		return unreachableExit(err)
	}
	path := plan.Outbox.SQLite.Path
	if f.output == "json" {
		s := savedAs(path, &r.Condition)
		s.Aside = r.Aside
		return rows(f.command, s)
	}
	say(f.out, "%s has %d events up to commit %d of %s\n", path, r.Events, r.Commits, from)
	if r.Aside != "" {
		say(f.out, "what was there is %s\n", r.Aside)
	}
	return nil
}

// unreachableExit gives an outbox that another process has its exit code.
func unreachableExit(err error) error {
	var unreachable *app.UnreachableError
	if errors.As(err, &unreachable) {
		return &exit{exitUnreachable, err}
	}
	return err
}
