package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// templates hold a folder for each kind of project, with files as they are written.
//
//go:embed templates
var templates embed.FS

// templateNames are the folders of templates; the first is what a person gets who names none.
var templateNames = []string{"orders", "email", "fan-out"}

func (c *command) initCommand() *cobra.Command {
	template := ""
	cmd := &cobra.Command{
		Use:     "init NAME",
		Short:   "Make a folder with pipelines to begin with",
		Example: "  millrace init shop\n  millrace init shop --template fan-out",
		Args:    cobra.ExactArgs(1),
		RunE:    action(func(_ *cobra.Command, args []string) error { return c.init(args[0], template) }),
	}
	cmd.Flags().Var(oneOf(&template, templateNames...), "template", "what to begin with: "+strings.Join(templateNames, ", "))
	return cmd
}

// init writes the files of a template into a folder that is new or empty. It never overwrites.
func (c *command) init(folder, template string) error {
	if err := makeEmpty(folder); err != nil {
		return err
	}
	title := filepath.Base(folder)
	if abs, err := filepath.Abs(folder); err == nil {
		title = filepath.Base(abs)
	}
	from := path.Join("templates", template)
	entries, err := fs.ReadDir(templates, from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := fs.ReadFile(templates, path.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if e.Name() == "README.md" {
			text = []byte(strings.Replace(string(text), "# NAME", "# "+title, 1))
		}
		if err := writeNew(filepath.Join(folder, e.Name()), text); err != nil {
			return err
		}
		say(c.out, "%s\n", filepath.Join(folder, e.Name()))
	}
	say(c.out, "\nNext:\n\n  cd %s\n  millrace dev\n", quote(folder))
	return nil
}

// makeEmpty makes a folder, or takes one that has nothing in it.
func makeEmpty(folder string) error {
	err := os.Mkdir(folder, 0o777) //nolint:gosec // what the user makes of new folders is for the umask to say
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is there already and not empty, nothing was written; choose another name", folder)
	}
	return nil
}

// writeNew writes a file that must not be there.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // as above
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
