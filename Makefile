# Needs Go; verify.sh in the demo also uses openssl and jq if they are there.

GO          ?= go
FUZZTIME    ?= 30s
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Not SA1019: the SDK's messages need the older protobuf module. Not SA4016: a tag
# of protobuf is written field<<3 | type, also where the type is 0.
CHECKS := inherit,-SA1019,-SA4016

# The S3 servers of make test-s3: Ceph's where it is installed.
S3_SERVERS ?= versitygw,minio$(if $(shell command -v radosgw),$(comma)ceph)
comma := ,

.PHONY: demo test test-s3 check build fuzz bench bench-parts bench-stores bench-writer suites soak clean

# Export sample tables, verify, restore into an empty instance, compare, tamper.
demo:
	$(GO) run ./cmd/otsnap/internal/demo

# The first step builds an S3 server, once, into the user's cache directory.
# Tests that wait for a bad network wait side by side.
test:
	$(GO) test -timeout 30m -run '^TestInstall$$' ./archive/s3/s3test
	$(GO) test -timeout 15m -parallel 8 ./...

# The store, and the main job, on every S3 server there is, with a table of what
# each enforces, ignores and drops.
test-s3:
	OTSNAP_S3=$(S3_SERVERS) $(GO) test -count 1 -timeout 30m -v -run '^TestInstall$$' ./archive/s3/s3test
	OTSNAP_S3=$(S3_SERVERS) $(GO) test -count 1 -timeout 30m -v -run '^Test(Store|Locks|DefaultLock|Versions|Probe|ManyObjects|LargeObject|Servers)$$' ./archive/s3
	OTSNAP_S3=$(S3_SERVERS) $(GO) test -count 1 -timeout 30m -v -run '^Test(MainJobAcrossClouds|ComplianceHoldsAgainstRoot|RolesCanDoTheirWorkAndNoMore)$$' ./cmd/otsnap

# What has to be green before a commit, beside the tests.
check:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not gofmt'ed:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) -checks $(CHECKS) ./...
	$(GO) test -race -short -timeout 20m ./...

build:
	$(GO) build -trimpath -ldflags "-s -w" -o bin/ ./cmd/otsnap ./cmd/tablestore-local ./cmd/otsnap/internal/sample/otsnap-sample

# Every fuzz target in turn, each for FUZZTIME.
fuzz:
	@grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n 1 dirname | sort -u | while read -r package; do \
		grep -rhoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' "$$package"/*_test.go | sed 's/^func //' | while read -r target; do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x "$$package" </dev/null || exit 1; \
		done || exit 1; \
	done

# The main job on 3,000,000 rows beside the bare SDK, as one table; some minutes.
# FLIGHTS names the file of rows, which else is fetched by npm.
bench:
	$(GO) run ./cmd/otsnap/internal/bench -flights "$(FLIGHTS)"

# Of that, object storage alone: beside the SDK's own transfer manager.
bench-stores:
	$(GO) run ./cmd/otsnap/internal/bench -stores

# The writing of chunks alone, beside DuckDB, with the tables of the archive in the
# folder ARCHIVE.
bench-writer:
	$(GO) run ./cmd/otsnap/internal/bench -writer "$(ARCHIVE)"

# Tables of 10^4 to 10^8 rows, which the server makes when they are read.
ROWS ?= 100000000
bench-growth:
	$(GO) run ./cmd/otsnap/internal/bench -growth $(ROWS)

# The parts by themselves, in the form benchstat reads.
bench-parts:
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./...

# What others wrote, against tablestore-local: the live tests in the Go SDK's own
# module, and the Node.js SDK. And other tools, which check what is signed here and sign
# what is checked here; with OTSNAP_COSIGN=1 cosign too, which takes minutes to build.
suites:
	OTSNAP_SDK_SUITE=1 OTSNAP_NODE=1 $(GO) test -count 1 -run '^(TestSDKLiveSuite|TestNodeSDK)$$' -v ./snapshot/tablestore/local
	$(GO) test -count 1 -timeout 30m -run '^Test(OtherTools|WhatOtherTools)' -v ./manifest

# What takes too long for every change: a hundred rounds of killed runs, a service
# that is busy for a minute, and everything signed changed in every bit.
soak: suites
	OTSNAP_SOAK=1 $(GO) test -count 1 -run '^TestBusyForAMinute$$' -v ./snapshot/tablestore
	OTSNAP_SOAK=1 $(GO) test -count 1 -timeout 60m -run '^Test(NoByteOf|NoMutantOf|MutatedChunks)' -v ./manifest ./archive ./snapshot
	OTSNAP_SOAK=1 $(GO) test -count 1 -timeout 20m -run '^TestMemoryIsKeptTo$$' -v ./cmd/otsnap
	OTSNAP_KILL_ROUNDS=100 $(GO) test -count 1 -timeout 60m -run "^TestKilled" -v ./cmd/otsnap

clean:
	rm -rf bin
