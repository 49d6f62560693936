package millrace_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What examples/collect promises: while the host and the central one are killed again and again, and the log is rotated, each line
// arrives once, and in order.
func TestCollectThroughKills(t *testing.T) {
	c := &collecting{T: t, folder: t.TempDir(), bin: filepath.Join(t.TempDir(), "millrace")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", c.bin, "./cmd/millrace").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hooks, admin := freePorts(t)
	edgeAdmin, _ := freePorts(t)
	ports := strings.NewReplacer("127.0.0.1:8080", hooks, "127.0.0.1:8081", admin, "127.0.0.1:8091", edgeAdmin)
	for from, to := range map[string]string{"examples/collect/pipelines.yaml": "central", "examples/collect/edge/pipelines.yaml": "edge"} {
		c.write(filepath.Join(to, "pipelines.yaml"), ports.Replace(read(t, from)))
	}
	c.env = append(os.Environ(), "HOST=web-1", "CENTRAL=http://"+hooks)
	central, edge := c.start("central"), c.start("edge")
	const steps, each = 4, 3000
	for step := range steps {
		c.log(step*each, each)
		c.until((step * each) + each/4) // in the middle of a step
		if step%3 == 2 {
			central.kill()
			central = c.start("central")
		} else {
			edge.kill()
			edge = c.start("edge")
		}
		if step%2 == 1 {
			c.rotate(step)
		}
	}
	c.until(steps * each)
	edge.kill() // what it had in flight it sends again
	edge = c.start("edge")
	c.log(steps*each, 1)
	lines := c.until(steps*each + 1)
	edge.kill()
	central.kill()
	times := map[string]int{}
	for _, n := range lines {
		times[n]++
	}
	for i := range steps*each + 1 {
		if n := times[fmt.Sprint(i)]; n != 1 {
			t.Fatalf("line %d of %d came %d times\n%s", i, len(lines), n, c.out.String())
		}
		if lines[i] != fmt.Sprint(i) {
			t.Fatalf("line %s came in the place of line %d", lines[i], i)
		}
	}
}

// collecting is a central Millrace and a host, each in a process and a folder of its own.
type collecting struct {
	*testing.T
	folder, bin string
	env         []string
	out         shared
}

func (c *collecting) write(name, text string) {
	c.Helper()
	path := filepath.Join(c.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		c.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		c.Fatal(err)
	}
}

// log appends n lines of a web server, which have their number in their path.
func (c *collecting) log(from, n int) {
	c.Helper()
	var b strings.Builder
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, "192.0.2.7 - - [02/Jan/2026:15:04:05 +0000] \"GET /n/%d HTTP/1.1\" 200 12 \"-\" \"curl/8.5\"\n", i)
	}
	c.write("edge/logs/access.log", b.String())
}

func (c *collecting) rotate(step int) {
	c.Helper()
	path := filepath.Join(c.folder, "edge/logs/access.log")
	if err := os.Rename(path, fmt.Sprintf("%s.%d", path, step)); err != nil {
		c.Fatal(err)
	}
}

var numberInPath = regexp.MustCompile(`"path":"/n/(\d+)"`)

// until waits until the central one has at least so many lines of the host, and returns their numbers.
func (c *collecting) until(n int) (numbers []string) {
	c.Helper()
	if err := eventually(func() error {
		numbers = nil
		files, err := filepath.Glob(filepath.Join(c.folder, "central/data/web-1/*.ndjson")) // two where a day ends meanwhile
		if err != nil {
			return err
		}
		for _, f := range files {
			for _, m := range numberInPath.FindAllStringSubmatch(read(c.T, f), -1) {
				numbers = append(numbers, m[1])
			}
		}
		if len(numbers) < n {
			return fmt.Errorf("%d lines of %d", len(numbers), n)
		}
		return nil
	}); err != nil {
		c.Fatalf("%v\n%s", err, c.out.String())
	}
	return numbers
}

// one is one process.
type one struct {
	*exec.Cmd
	t *testing.T
}

func (c *collecting) start(folder string) one {
	c.Helper()
	p := one{exec.CommandContext(c.Context(), c.bin, "run"), c.T}
	p.Dir, p.Env, p.Stdout, p.Stderr = filepath.Join(c.folder, folder), c.env, &c.out, &c.out
	if err := p.Start(); err != nil {
		c.Fatal(err)
	}
	return p
}

// kill ends it as kill -9 does. That it had ended before would be a fault of its own.
func (p one) kill() {
	p.t.Helper()
	if err := p.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		p.t.Errorf("it ended by itself: %v", err)
	}
}
