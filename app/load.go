// Package app ties one process together: it loads a configuration, builds its components from their tables, and starts and
// stops everything in the order in which events flow.
package app

import (
	"log/slog"

	"github.com/millrace-run/millrace/pipelines"
)

// Plan is a checked configuration.
type Plan = pipelines.Plan

// Source says where a configuration is.
type Source struct {
	Path       string                      // a file, or a folder of files
	AllowUnset bool                        // variables that are not set are empty, instead of an error
	Env        func(string) (string, bool) // what ${NAME} and env("NAME") read; nil: nothing is set
	Logger     *slog.Logger                // of components; nil discards
	Detour     *Detour                     // where sinks deliver; nil: where the file says
	Tests      bool                        // read the files of tests beside it too
}

// Load reads and checks a configuration and builds its components. Nothing is opened or started. The plan is nil when the report
// holds an error.
func Load(s Source) (*Plan, Report) {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	all := s.Detour.types(s.Logger)
	plan, findings := pipelines.Load(pipelines.Options{Path: s.Path, Types: all, Env: s.Env, AllowUnset: s.AllowUnset, Tests: s.Tests})
	if plan != nil && s.Detour != nil {
		s.Detour.apply(plan)
	}
	return plan, Report{findings}
}

// Report is what Load found.
type Report struct{ findings []pipelines.Diagnostic }

// Text is the report for a person; empty when there is nothing to say.
func (r Report) Text() string { return pipelines.Format(r.findings) }

// Errors is how many errors there are.
func (r Report) Errors() int { return len(r.findings) - r.Warnings() }

// Warnings is how many warnings there are.
func (r Report) Warnings() int {
	n := 0
	for _, f := range r.findings {
		if f.Warning {
			n++
		}
	}
	return n
}

// Finding is one row of a report, for programs.
type Finding struct {
	File     string `json:"file"`
	Line     int    `json:"line"` // from 1; 0 is the file as a whole
	Col      int    `json:"col"`
	Severity string `json:"severity"` // error or warning
	Code     string `json:"code"`
	Problem  string `json:"problem"`
	Hint     string `json:"hint"`
}

// Rows is the report for programs; never nil.
func (r Report) Rows() []Finding {
	rows := make([]Finding, len(r.findings))
	for i, f := range r.findings {
		rows[i] = Finding{f.Place.File, f.Place.Line, f.Place.Col, "error", f.Code, f.Problem, f.Hint}
		if f.Warning {
			rows[i].Severity = "warning"
		}
	}
	return rows
}

// Explain tells what the code of a finding means and what to do about it.
func Explain(code string) (string, bool) { return pipelines.Explain(code) }
