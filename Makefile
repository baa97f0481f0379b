# Needs Go; verify.sh in the demo also uses openssl and jq if they are there.

GO          ?= go
FUZZTIME    ?= 30s
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Not SA1019: the SDK's messages need the older protobuf module. Not SA4016: a tag
# of protobuf is written field<<3 | type, also where the type is 0.
CHECKS := inherit,-SA1019,-SA4016

.PHONY: demo test check build fuzz bench clean

# Export sample tables, verify, restore into an empty instance, compare, tamper.
demo:
	$(GO) run ./cmd/otsnap/internal/demo

test:
	$(GO) test -timeout 10m ./...

# What has to be green before a commit, beside the tests.
check:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not gofmt'ed:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) -checks $(CHECKS) ./...
	$(GO) test -race -short -timeout 10m ./...

build:
	$(GO) build -trimpath -ldflags "-s -w" -o bin/ ./cmd/otsnap ./cmd/tablestore-local ./cmd/otsnap/internal/sample/otsnap-sample

# Every fuzz target in turn, each for FUZZTIME.
fuzz:
	@grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n 1 dirname | sort -u | while read -r package; do \
		grep -rhoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' "$$package"/*_test.go | sed 's/^func //' | while read -r target; do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null || exit 1; \
		done || exit 1; \
	done

bench:
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./...

clean:
	rm -rf bin
