# `make build`, `make test` and `make vm-test` are the ones to know. Variables that a call may set:
#   make test      CI=1 (a missing peer fails; fuzzes too)  PKG='./luks2 ./volume'  RUN=pattern
#   make vm-test   RUN=pattern KEEP=1 PKG=./package ACCEL=kvm TIMEOUT=45m ARGS='flags of the test binary'
#   make fuzz      FUZZTIME=30s (for each target)
#   make install   PREFIX=/usr/local DESTDIR= ALIASES=1 (links under the originals' names)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

GO ?= go
PREFIX ?= /usr/local
FUZZTIME ?= 30s
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# Tests print through bin/tally; with TALLY=file it adds a line of counts to that file.
COUNT = bin/tally $(if $(TALLY),-o '$(TALLY)')
# Build tags behind which there are tests.
TAGS = secretcount,vm,bench
# What also has to build where there is no Linux kernel.
PURE = ./secret/... ./luks2/... ./volume/... ./crypttab/... ./tpm2/... ./fido2/... ./pkcs11/... ./image/... ./portable/... ./build/... ./idle \
	./internal/argon2/... ./internal/gpt/... ./internal/imagefs/... ./internal/erofs/... ./internal/ext4/... \
	./internal/squashfs/... ./internal/zstd/... ./internal/verity/... ./internal/version/...

.PHONY: build build-arm64 demo test peers check unit fuzz vm-test bench install clean bin/tally bin/vm-run

build:
	$(BUILD) -o bin/lockport ./cmd/lockport

build-arm64:
	GOARCH=arm64 $(BUILD) -o bin/lockport-arm64 ./cmd/lockport

demo: build
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/activate ./examples/activate
	@examples/demo bin/lockport bin/activate

test: peers check unit $(if $(CI),fuzz)

peers:
	scripts/peers test

check:
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not gofmt'ed: $$files"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags $(TAGS) ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) build $(PURE)
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...
	$(GO) tool staticcheck -tags $(TAGS) ./...

unit: bin/tally
	CGO_ENABLED=1 $(GO) test -json -race -shuffle=on -tags secretcount -timeout 15m \
		$(if $(RUN),-run '$(RUN)') $(or $(PKG),./...) | $(COUNT)

fuzz: bin/tally
	scripts/fuzz $(FUZZTIME) | $(COUNT)

vm-test: bin/vm-run bin/tally
	scripts/peers vm
	bin/vm-run $(VM_FLAGS) -- -test.v=test2json $(ARGS) | $(GO) tool test2json -t -p guest | $(COUNT) -v

VM_FLAGS = $(if $(RUN),-run '$(RUN)') $(if $(KEEP),-keep) $(if $(PKG),-pkg $(PKG)) \
	$(if $(ACCEL),-accel $(ACCEL)) $(if $(TIMEOUT),-timeout $(TIMEOUT))

bench: build bin/vm-run
	scripts/peers test
	scripts/peers vm
	$(GO) test -count=1 -v -tags bench -run '^TestBench(Table|Images)$$' -timeout 30m ./test/bench
	bin/vm-run -bench $(VM_FLAGS) -- $(ARGS)

bin/tally bin/vm-run:
	@$(GO) build -o $@ ./test/$(subst vm-run,vm/run,$(notdir $@))

SHARE = $(DESTDIR)$(PREFIX)/share

# What is built already is installed as it is: root may have neither Go nor a say in the repository.
install: $(if $(wildcard bin/lockport),,build)
	install -D -m 755 bin/lockport $(DESTDIR)$(PREFIX)/bin/lockport
	bin/lockport completion bash | install -D -m 644 /dev/stdin $(SHARE)/bash-completion/completions/lockport
	bin/lockport completion zsh | install -D -m 644 /dev/stdin $(SHARE)/zsh/site-functions/_lockport
	bin/lockport completion fish | install -D -m 644 /dev/stdin $(SHARE)/fish/vendor_completions.d/lockport.fish
	for page in man/*.[1-8]; do [ ! -e "$$page" ] || \
		install -D -m 644 "$$page" "$(SHARE)/man/man$${page##*.}/$${page##*/}"; done
	$(if $(ALIASES),for name in systemd-cryptenroll systemd-cryptsetup portablectl; do \
		ln -sf lockport $(DESTDIR)$(PREFIX)/bin/$$name; done)

clean:
	rm -rf bin
