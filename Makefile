# The two commands of a new developer: `make build`, `make test`. All targets: see CONTRIBUTING.md.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PREFIX ?= /usr/local
FUZZTIME ?= 60s
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

.PHONY: build build-arm64 vm-test clean

build:
	$(BUILD) -o bin/lockport ./cmd/lockport

build-arm64:
	GOARCH=arm64 $(BUILD) -o bin/lockport-arm64 ./cmd/lockport

# What vm-test takes: RUN=pattern KEEP=1 PKG=./package ACCEL=kvm TIMEOUT=15m ARGS='flags of the test binary'
VM_FLAGS = $(if $(RUN),-run '$(RUN)') $(if $(KEEP),-keep) $(if $(PKG),-pkg $(PKG)) \
	$(if $(ACCEL),-accel $(ACCEL)) $(if $(TIMEOUT),-timeout $(TIMEOUT))

vm-test:
	$(GO) build -o bin/vm-run ./test/vm/run
	exec bin/vm-run $(VM_FLAGS) -- $(ARGS)

clean:
	rm -rf bin
