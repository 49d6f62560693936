package app

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/millrace-run/millrace/sinks/queue"
)

// newQueues is the handler of the queues of a plan; nil if it has none.
func newQueues(plan *Plan, all flows) (http.Handler, error) {
	served := map[string]queue.Served{}
	for _, p := range plan.Pipelines {
		for _, s := range p.Sinks {
			if !s.Pull {
				continue
			}
			q, ok := s.Value.(*queue.Queue)
			lender := all.of(p.Name).router.Lender(p.Name, s.Name)
			if !ok || lender == nil {
				return nil, fmt.Errorf("pipeline %s, sink %s: a %T is no queue", p.Name, s.Name, s.Value)
			}
			served[queueName(p.Name, s.Name)] = queue.Served{Queue: q, Lender: lender}
		}
	}
	if len(served) == 0 {
		return nil, nil
	}
	return queue.NewMux(served), nil
}

// queueName is how workers call a queue. Names of pipelines and sinks have no dots.
func queueName(pipeline, sink string) string { return pipeline + "." + sink }

// withQueues leads requests for queues there, and all others to the webhooks.
func withQueues(queues, hooks http.Handler) http.Handler {
	if queues == nil {
		return hooks
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, queue.Prefix) {
			queues.ServeHTTP(w, r)
			return
		}
		hooks.ServeHTTP(w, r)
	})
}
