package local

import (
	"bytes"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// batchRow is one row of a BatchWriteRow on its way: the change and where its
// answer goes.
type batchRow struct {
	change *change
	answer *otsprotocol.RowInBatchWriteRowResponse
}

func (s *Server) batchWriteRow(c call, req *otsprotocol.BatchWriteRowRequest) (proto.Message, error) {
	if err := refuseTransaction(req.TransactionId); err != nil {
		return nil, err
	}
	tables, err := parseBatch(req)
	if err != nil {
		return nil, err
	}
	resp := &otsprotocol.BatchWriteRowResponse{}
	var rows []batchRow
	for i, table := range req.GetTables() {
		answers := &otsprotocol.TableInBatchWriteRowResponse{TableName: table.TableName}
		resp.Tables = append(resp.Tables, answers)
		d, err := s.table(c.instance, table.GetTableName())
		for _, ch := range tables[i] {
			answer := &otsprotocol.RowInBatchWriteRowResponse{IsOk: proto.Bool(false)}
			answers.Rows = append(answers.Rows, answer)
			rows = append(rows, batchRow{ch, answer})
			if err == nil {
				ch.refused = ch.resolve(d, s.now())
			} else {
				ch.refused = err
			}
		}
	}
	failing := s.faults.rows(c.fault, len(rows))
	if c.fault.Kind == FaultRows || c.fault.Kind == FaultEachRow {
		for i := range failing {
			rows[i].change.refused = Fault{Kind: FaultBusy}.refusal()
		}
	}
	write := s.writeAll
	if req.GetIsAtomic() {
		write = s.writeAtomic
	}
	results, err := write(changesOf(rows))
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if failing[i] && c.fault.Kind == FaultRowsTimeout {
			results[i].err = errTimeout()
		}
		rows[i].fill(results[i])
	}
	return resp, nil
}

func changesOf(rows []batchRow) []*change {
	changes := make([]*change, len(rows))
	for i := range rows {
		changes[i] = rows[i].change
	}
	return changes
}

// parseBatch checks all of a batch that needs no table. What it refuses fails
// the batch as a whole; what a table refuses later fails a row.
func parseBatch(req *otsprotocol.BatchWriteRowRequest) ([][]*change, error) {
	names := map[string]bool{}
	tables := make([][]*change, len(req.GetTables()))
	count, size := 0, 0
	for i, table := range req.GetTables() {
		name := table.GetTableName()
		if err := checkTableName(name); err != nil {
			return nil, err
		}
		if names[name] {
			return nil, invalid("Duplicated table name: '%s'.", name)
		}
		names[name] = true
		if len(table.GetRows()) == 0 {
			return nil, invalid("No operation is specified for table:'%s'.", name)
		}
		if count += len(table.GetRows()); count > maxBatchWrite {
			return nil, invalid("Rows count exceeds the upper limit: %d.", maxBatchWrite)
		}
		for _, r := range table.GetRows() {
			ch, err := newChange(r.GetType(), r.GetRowChange(), r.GetCondition(), r.GetReturnContent())
			if err != nil {
				return nil, err
			}
			size += ch.size()
			tables[i] = append(tables[i], ch)
		}
		if err := checkRepeated(tables[i], req.GetIsAtomic()); err != nil {
			return nil, err
		}
	}
	if count == 0 {
		return nil, invalid("No row is specified in BatchWriteRow.")
	}
	if size > maxWrite {
		return nil, invalid("The total data size of BatchWriteRow request exceeds the limit, limit size: %d, data size: %d.", maxWrite, size)
	}
	return tables, nil
}

// checkRepeated refuses two changes to one row unless they may be made in turn,
// as the service does in an atomic batch to a table without secondary indexes.
func checkRepeated(changes []*change, inTurn bool) error {
	if inTurn || len(changes) < 2 {
		return nil
	}
	seen := make(map[string]bool, len(changes))
	var key []byte
	for _, ch := range changes {
		key = key[:0]
		generated := false
		for i := range ch.row.key {
			generated = generated || ch.row.key[i].value[0] == typeAutoIncrement
			key = append(key, ch.row.key[i].raw...)
		}
		if seen[string(key)] && !generated {
			return invalid("Duplicate rows detected in MultiPut.")
		}
		seen[string(key)] = true
	}
	return nil
}

func (r batchRow) fill(res result) {
	if res.err != nil {
		r.answer.Error = asServiceError(res.err).proto()
		return
	}
	r.answer.IsOk = proto.Bool(true)
	r.answer.Consumed = res.consumed()
	r.answer.Row = res.row
}

// writeAtomic makes all the changes or none. They must be to one table and one
// partition, that is, agree in the first column of the primary key. When one
// cannot be made, every row answers with the reason.
func (s *Server) writeAtomic(changes []*change) ([]result, error) {
	if err := checkPartition(changes); err != nil {
		return failAll(changes, err), nil
	}
	defer s.rows.lock(changes)()
	defer s.feed.write(changes)()
	w := &writer{s: s, batch: s.db.NewIndexedBatch(), now: s.now()}
	defer w.batch.Close()
	results := make([]result, len(changes))
	for i, ch := range changes {
		if results[i] = w.write(ch); results[i].err != nil {
			return failAll(changes, results[i].err), nil
		}
	}
	return results, w.batch.Commit(s.durable)
}

func checkPartition(changes []*change) error {
	first := changes[0]
	for _, ch := range changes {
		if ch.refused != nil {
			return ch.refused
		}
		if ch.table != first.table || !bytes.Equal(ch.row.key[0].value, first.row.key[0].value) {
			return invalid("The rows of an atomic batch must have the same table and partition key.")
		}
	}
	return checkRepeated(changes, len(first.table.indexTables) == 0)
}

func failAll(changes []*change, err error) []result {
	results := make([]result, len(changes))
	for i := range results {
		results[i].err = err
	}
	return results
}
