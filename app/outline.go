package app

import (
	"fmt"
	"strings"

	"github.com/millrace-run/millrace/pipelines"
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
	}
	return lines
}
