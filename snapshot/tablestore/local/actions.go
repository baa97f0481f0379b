package local

import (
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// call is what an operation knows of its request besides the message.
type call struct {
	instance string
	fault    Fault // the request meets; the zero Fault for none
}

// operation is one the server can do.
type operation struct {
	alone bool // it changes tables, and so waits for every other and has them wait
	run   func(s *Server, c call, body []byte) (reply, error)
}

// operations are those there are, by the name of their action.
var operations = map[string]operation{
	"ListTable":           beside((*Server).listTable),
	"DescribeTable":       beside((*Server).describeTable),
	"CreateTable":         alone((*Server).createTable),
	"UpdateTable":         alone((*Server).updateTable),
	"DeleteTable":         alone((*Server).deleteTable),
	"AddDefinedColumn":    alone((*Server).addDefinedColumn),
	"DeleteDefinedColumn": alone((*Server).deleteDefinedColumn),

	"CreateIndex": alone((*Server).createIndex),
	"DropIndex":   alone((*Server).dropIndex),

	"ListSearchIndex":     beside((*Server).listSearchIndex),
	"DescribeSearchIndex": beside((*Server).describeSearchIndex),
	"CreateSearchIndex":   alone((*Server).createSearchIndex),
	"UpdateSearchIndex":   alone((*Server).updateSearchIndex),
	"DeleteSearchIndex":   alone((*Server).deleteSearchIndex),

	"PutRow":        beside((*Server).putRow),
	"UpdateRow":     beside((*Server).updateRow),
	"DeleteRow":     beside((*Server).deleteRow),
	"BatchWriteRow": beside((*Server).batchWriteRow),
	"GetRow":        beside((*Server).getRow),
	"BatchGetRow":   beside((*Server).batchGetRow),
	"GetRange":      {run: runGetRange},

	"ComputeSplitPointsBySize": beside((*Server).computeSplitPointsBySize),

	"ListStream":       beside((*Server).listStream),
	"DescribeStream":   beside((*Server).describeStream),
	"GetShardIterator": beside((*Server).getShardIterator),
	"GetStreamRecord":  beside((*Server).getStreamRecord),

	"ListTimeseriesTable":     beside((*Server).listTimeseriesTable),
	"DescribeTimeseriesTable": beside((*Server).describeTimeseriesTable),
	"CreateTimeseriesTable":   alone((*Server).createTimeseriesTable),
	"UpdateTimeseriesTable":   alone((*Server).updateTimeseriesTable),
	"DeleteTimeseriesTable":   alone((*Server).deleteTimeseriesTable),

	"PutTimeseriesData":    beside((*Server).putTimeseriesData),
	"GetTimeseriesData":    beside((*Server).getTimeseriesData),
	"QueryTimeseriesMeta":  beside((*Server).queryTimeseriesMeta),
	"UpdateTimeseriesMeta": beside((*Server).updateTimeseriesMeta),
	"DeleteTimeseriesMeta": beside((*Server).deleteTimeseriesMeta),

	"DescribeTimeseriesAnalyticalStore": beside((*Server).describeTimeseriesAnalyticalStore),
	"CreateTimeseriesAnalyticalStore":   alone((*Server).createTimeseriesAnalyticalStore),
	"UpdateTimeseriesAnalyticalStore":   alone((*Server).updateTimeseriesAnalyticalStore),
	"DeleteTimeseriesAnalyticalStore":   alone((*Server).deleteTimeseriesAnalyticalStore),

	"CreateTimeseriesLastpointIndex": alone((*Server).createTimeseriesLastpointIndex),
	"DeleteTimeseriesLastpointIndex": alone((*Server).deleteTimeseriesLastpointIndex),
}

// message is a request's, of type T.
type message[T any] interface {
	*T
	proto.Message
}

func beside[T any, M message[T]](f func(*Server, call, M) (proto.Message, error)) operation {
	return operation{run: answering(f)}
}

func alone[T any, M message[T]](f func(*Server, call, M) (proto.Message, error)) operation {
	return operation{alone: true, run: answering(f)}
}

// answering decodes the request for f and encodes what it answers.
func answering[T any, M message[T]](f func(*Server, call, M) (proto.Message, error)) func(*Server, call, []byte) (reply, error) {
	return func(s *Server, c call, body []byte) (reply, error) {
		m := M(new(T))
		if err := decode(body, m); err != nil {
			return reply{}, err
		}
		answer, err := f(s, c, m)
		if err != nil {
			return reply{}, err
		}
		encoded, err := proto.Marshal(answer)
		return reply{body: encoded}, err
	}
}

func decode(body []byte, m proto.Message) error {
	if err := proto.Unmarshal(body, m); err != nil {
		return invalid("Parse PBMessage from RawString failed.")
	}
	return nil
}

// runGetRange answers with what it encodes itself.
func runGetRange(s *Server, c call, body []byte) (reply, error) {
	get := &otsprotocol.GetRangeRequest{}
	if err := decode(body, get); err != nil {
		return reply{}, err
	}
	return s.getRange(c, get)
}

// do carries out a request, and then splits the shards it filled.
func (s *Server) do(req request, fault Fault) (reply, error) {
	rep, err := s.carryOut(req, fault)
	s.splitCrowded()
	return rep, err
}

// carryOut carries out a request with mu held as its operation needs it.
func (s *Server) carryOut(req request, fault Fault) (reply, error) {
	op, known := operations[req.action]
	if op.alone {
		s.mu.Lock()
		defer s.mu.Unlock()
	} else {
		s.mu.RLock()
		defer s.mu.RUnlock()
	}
	if s.db == nil {
		return reply{}, errClosed()
	}
	if !known {
		return reply{}, unknownAction(req.action)
	}
	if op.alone {
		if err := s.admitTableOp(req.instance); err != nil {
			return reply{}, err
		}
	}
	return op.run(s, call{instance: req.instance, fault: fault}, req.body)
}

// unknownAction tells what the service can do and this server cannot from what
// nobody can.
func unknownAction(action string) error {
	switch action {
	case "StartLocalTransaction", "CommitTransaction", "AbortTransaction",
		"LoadTable", "UnloadTable",
		"SplitTimeseriesScanTask", "ScanTimeseriesData",
		"BulkImport", "BulkExport", "ComputeSplits", "ParallelScan", "SQLQuery", "Search",
		"CreateDeliveryTask", "DeleteDeliveryTask", "DescribeDeliveryTask", "ListDeliveryTask":
		return unsupported(action)
	}
	return invalid("Unsupported operation: '%s'.", action)
}
