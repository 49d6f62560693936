package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/sources/webhook"
)

// intake is the sources of a plan, one for each pipeline.
type intake struct {
	sources []*source
	hooks   []*hook
	mux     *webhook.Mux
	ends    *ends
}

// source is the source of a pipeline. running says that it does its work.
type source struct {
	pipeline string
	value    router.Source
	running  atomic.Bool
	over     atomic.Bool // it has come to its end
	once     sync.Once
	ran      chan struct{} // closed when it runs for the first time
}

func (s *source) runs() {
	s.running.Store(true)
	s.once.Do(func() { close(s.ran) })
}

// hook is a webhook with what a person must know to use it.
type hook struct {
	*webhook.Source
	accept []string
}

func newHook(c webhook.Config) (*hook, error) {
	s, err := webhook.New(c)
	return &hook{s, c.Accept}, err
}

func newIntake(plan *Plan, logger *slog.Logger) (*intake, error) {
	in := &intake{}
	var paths []*webhook.Source
	for _, p := range plan.Pipelines {
		s, ok := p.Source.Value.(router.Source)
		if !ok {
			return nil, fmt.Errorf("pipeline %s: a %T is no source", p.Name, p.Source.Value)
		}
		in.sources = append(in.sources, &source{pipeline: p.Name, value: s, ran: make(chan struct{})})
		if h, ok := s.(*hook); ok {
			in.hooks, paths = append(in.hooks, h), append(paths, h.Source)
		}
	}
	mux, err := webhook.NewMux(paths...)
	if err != nil {
		return nil, err
	}
	mux.Logger = logger
	in.mux, in.ends = mux, newEnds(len(in.sources))
	return in, nil
}

func (in *intake) handler() http.Handler { return in.mux }

// headerBytes is for http.Server, which adds 4 KiB of its own to it.
func (in *intake) headerBytes() int { return in.mux.MaxHeaderBytes() }

// tell makes the webhooks say what their yes is worth where the log of their pipeline does not outlive the process.
func (in *intake) tell(all flows) {
	for _, s := range in.sources {
		if h, ok := s.value.(*hook); ok && !all.of(s.pipeline).Can().Durable {
			h.Volatile()
		}
	}
}

// start runs every source until ctx ends; done knows them.
func (in *intake) start(ctx context.Context, all flows, logger *slog.Logger, done *sync.WaitGroup) {
	for _, s := range in.sources {
		r := all.of(s.pipeline).router
		emit := r.Emit(s.pipeline)
		log := logger.With("pipeline", s.pipeline)
		done.Go(func() {
			end := keep(ctx, func(ctx context.Context) error {
				defer s.running.Store(false)
				if err := r.OpenSource(ctx, s.pipeline, s.value); err != nil {
					return err
				}
				return s.value.Run(&heard{ctx, s.runs}, emit)
			}, event.SystemClock{}, log)
			s.over.Store(end != nil)
			in.ends.end(s.pipeline, end)
		})
	}
}

// heard is a context that tells when somebody listens for its end. That is what a source does once it takes events in, so it
// shows that it runs without a method for it in every source.
type heard struct {
	context.Context
	tell func()
}

// Done is the channel of the context.
func (h *heard) Done() <-chan struct{} {
	h.tell()
	return h.Context.Done()
}

// await waits until every source has begun to run, or ctx ends.
func (in *intake) await(ctx context.Context) {
	for _, s := range in.sources {
		select {
		case <-s.ran:
		case <-ctx.Done():
			return
		}
	}
}

// notReady names the sources that do not run.
func (in *intake) notReady() []string {
	var reasons []string
	for _, s := range in.sources {
		if !s.running.Load() && !s.over.Load() {
			reasons = append(reasons, fmt.Sprintf("the source of pipeline %s does not run", s.pipeline))
		}
	}
	return reasons
}
