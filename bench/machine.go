package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/millrace-run/millrace/bench/internal/floor"
)

// machine is what the figures were measured on and with; what cannot be found out is "unknown".
type machine struct {
	Cores      int    `json:"cores"`
	CPU        string `json:"cpu"`
	Memory     string `json:"memory"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"` // of the temporary folder
	Go         string `json:"go"`
	SQLite     string `json:"sqlite"`
	Millrace   string `json:"millrace"`
	Runs       int    `json:"runs"`
	Duration   string `json:"duration"`
}

const unknown = "unknown"

func describe(ctx context.Context, b *bench) machine {
	m := machine{
		Cores: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name"), Memory: unknown, Kernel: unknown, Millrace: unknown,
		FileSystem: fileSystem(b.dir), Go: runtime.Version(), SQLite: floor.SQLite(), Runs: b.runs, Duration: b.duration.String(),
	}
	var kilobytes float64
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kilobytes); err == nil {
		m.Memory = fmt.Sprintf("%.0f GiB", kilobytes/(1<<20))
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if said, err := exec.CommandContext(ctx, b.binary, "version").Output(); err == nil {
		m.Millrace, _, _ = strings.Cut(strings.TrimSpace(string(said)), "\n")
	}
	return m
}

// String is the machine in one line.
func (m machine) String() string {
	return fmt.Sprintf("%d cores %s, %s, Linux %s, %s, %s, SQLite %s, %s; %d runs of %s",
		m.Cores, m.CPU, m.Memory, m.Kernel, m.FileSystem, m.Go, m.SQLite, m.Millrace, m.Runs, m.Duration)
}

// field is the value of the first line of a file that begins with a name.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	for line := range bytes.Lines(text) {
		if key, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}

// fileSystem is the type of the mount that a folder lies in, and its device.
func fileSystem(dir string) string {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return unknown
	}
	best, found := "", unknown
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 3 {
			continue
		}
		inside := f[1] == "/" || dir == f[1] || strings.HasPrefix(dir, f[1]+"/")
		if inside && len(f[1]) >= len(best) {
			best, found = f[1], f[2]+" on "+f[0]
		}
	}
	return found
}
