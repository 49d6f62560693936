# Millrace. The commands that people and CI use; `make help` lists them.
SHELL := /bin/sh
LINT  := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

run: build ## build, then run pipelines.yaml for development: sinks reach nobody, what they send is shown
	./bin/millrace dev -c pipelines.yaml

test: tools ## vet, then every test with the race detector
	go vet ./...
	go test -race -shuffle=on -count=1 -timeout=20m ./...

check: tools ## what a change must pass before it is committed, tests apart: format, vet, lint
	@out=$$(gofmt -l .); test -z "$$out" || { echo "not formatted, run gofmt -w on:" $$out >&2; exit 1; }
	go vet ./...
	$(LINT) ./...

stress: tools ## Watermill's suite for Pub/Subs ten times at once, with the race detector
	go test -race -tags stress -run=Stress -count=1 -timeout=20m ./outbox/pubsub

torture: tools ## the long torture, 10,000 random programs of deliveries, then such of file actions against the tail until interrupted; a failure prints how to repeat it
	MILLRACE_TORTURE=long go test -count=1 -timeout=60m ./torture
	MILLRACE_TORTURE=long go test -count=1 -run=TestUrgent -v ./router
	seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ') && echo "programs of deliveries, seed $$seed" && \
	  go test ./router -run='^TestPrograms$$' -count=1 -timeout=60m -rapid.checks=10000 -rapid.seed=$$seed
	@while seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ') && echo "file actions, seed $$seed" && \
	  go test ./sources/tail -run='^TestPrograms$$' -count=1 -timeout=0 -rapid.checks=2000 -rapid.seed=$$seed; do :; done; exit 1

bench: build ## measure the program against its floors, about 10 minutes; BENCH='-run intake -n 1' and the like choose
	go build -trimpath -o bin/bench ./bench
	./bin/bench $(BENCH)

bench-long: build ## the long measurements: 10 million events stored, a sink down, a full disk
	go build -trimpath -o bin/bench ./bench
	./bin/bench -long $(BENCH)

bench-go: tools ## the benchmarks of every package
	go test -run='^$$' -bench=. -benchmem -timeout=30m ./...

build: tools ## compile bin/millrace
	go build -trimpath -o bin/millrace ./cmd/millrace

# SQLite is C, so a compiler is needed beside Go. A Go that can fetch a newer toolchain by itself counts as new enough.
tools:
	@command -v go >/dev/null || { echo "millrace needs Go: https://go.dev/dl" >&2; exit 1; }
	@want=$$(sed -n 's/^go //p' go.mod); have=$$(go env GOVERSION 2>/dev/null | sed 's/^go//;s/[ -].*//'); \
	  test "$$(printf '%s\n%s\n' "$$want" "$$have" | sort -V | head -n 1)" = "$$want" || \
	  { echo "millrace needs Go $$want or newer, this is $${have:-older}: https://go.dev/dl" >&2; exit 1; }
	@cc=$$(go env CC); test "$$(go env CGO_ENABLED)" = 1 && command -v "$${cc%% *}" >/dev/null || \
	  { echo "millrace needs a C compiler for SQLite ($$cc is missing or CGO_ENABLED is 0): apt-get install gcc libc6-dev" >&2; exit 1; }

.PHONY: help run test check stress torture bench bench-long bench-go build tools
