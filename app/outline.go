package app

import (
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/pipelines"
	"github.com/millrace-run/millrace/rules"
)

// Outline says in a line for each pipeline what it does, such as
//
//	orders: webhook /orders → filter, set → archive (storage), warehouse (http)
//
// and of one whose events are in memory only, that they are.
func Outline(plan *Plan) []string {
	lines := make([]string, len(plan.Pipelines))
	for i, p := range plan.Pipelines {
		steps := []string{p.Source.Type}
		if h, ok := p.Source.Value.(interface{ Path() string }); ok {
			steps[0] += " " + h.Path()
		}
		var stages, sinks []string
		for _, s := range p.Stages {
			stages = append(stages, s.Name)
		}
		if len(stages) > 0 {
			steps = append(steps, strings.Join(stages, ", "))
		}
		for _, s := range p.Sinks {
			sinks = append(sinks, fmt.Sprintf("%s (%s)", s.Name, s.Type))
		}
		steps = append(steps, strings.Join(sinks, ", "))
		lines[i] = p.Name + ": " + strings.Join(steps, " → ")
		if p.Delivery == pipelines.AtMostOnce {
			lines[i] += ", at_most_once: in memory only"
		}
		if p.Delivery == pipelines.ExactlyOnce {
			lines[i] += ", exactly_once"
		}
	}
	return lines
}

// Matches says in a line for each match what it is as an expression, such as
//
//	orders.archive: match is topic(type, "orders.#")
func Matches(plan *Plan) []string {
	var lines []string
	line := func(p *pipelines.Pipeline, name string, x *rules.Expr) {
		lines = append(lines, plan.Hide(fmt.Sprintf("%s.%s: match is %s", p.Name, name, x)))
	}
	for _, p := range plan.Pipelines {
		for _, s := range p.Stages {
			if s.Match != nil {
				line(p, s.Name, s.Match)
			}
		}
		for _, s := range p.Sinks {
			if s.Match {
				line(p, s.Name, s.When)
			}
		}
	}
	return lines
}
