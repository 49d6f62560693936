package main

import (
	"testing"

	"github.com/millrace-run/millrace/app"
	"github.com/millrace-run/millrace/pipelines"
)

func TestHeapGrowth(t *testing.T) {
	logs, stored := &pipelines.Pipeline{Rereadable: true, PushDown: 2}, &pipelines.Pipeline{Rereadable: true}
	for want, all := range map[int][]*pipelines.Pipeline{100: {logs}, 50: {logs, stored}, 200: {logs, {}, stored}} {
		if got := heapGrowth(&app.Plan{Pipelines: all}); got != want {
			t.Errorf("%d percent, want %d", got, want)
		}
	}
}
