package local

import (
	"bytes"
	"errors"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// batchRow is one row of a BatchWriteRow on its way: the change and where its
// answer goes.
type batchRow struct {
	change *change
	answer *otsprotocol.RowInBatchWriteRowResponse
}

func (s *Server) batchWriteRow(instance string, req *otsprotocol.BatchWriteRowRequest) (proto.Message, error) {
	if err := refuseTransaction(req.TransactionId); err != nil {
		return nil, err
	}
	tables, err := parseBatch(req)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()

	resp := &otsprotocol.BatchWriteRowResponse{}
	var rows []batchRow
	now := s.now()
	for i, table := range req.GetTables() {
		d, err := s.table(instance, table.GetTableName())
		if err != nil {
			return nil, err
		}
		answers := &otsprotocol.TableInBatchWriteRowResponse{TableName: table.TableName}
		resp.Tables = append(resp.Tables, answers)
		for _, ch := range tables[i] {
			answer := &otsprotocol.RowInBatchWriteRowResponse{IsOk: proto.Bool(false)}
			answers.Rows = append(answers.Rows, answer)
			if err := ch.resolve(d, now); err != nil {
				answer.Error = asServiceError(err).proto()
				continue
			}
			rows = append(rows, batchRow{ch, answer})
		}
	}
	if req.GetIsAtomic() {
		return resp, s.writeAtomic(resp, rows)
	}
	return resp, s.writeEach(rows)
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

// checkRepeated refuses two changes to one row. In an atomic batch they are made
// in turn, as the service does.
func checkRepeated(changes []*change, atomic bool) error {
	if atomic || len(changes) < 2 {
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

// writeEach makes every change it can.
func (s *Server) writeEach(rows []batchRow) error {
	changes := make([]*change, len(rows))
	for i := range rows {
		changes[i] = rows[i].change
	}
	results, err := s.writeAll(changes)
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].fill(results[i])
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
func (s *Server) writeAtomic(resp *otsprotocol.BatchWriteRowResponse, rows []batchRow) error {
	results, err := s.tryAtomic(resp, rows)
	var refused *serviceError
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if refused != nil {
		for _, table := range resp.Tables {
			for _, answer := range table.Rows {
				answer.Error = refused.proto()
			}
		}
		return nil
	}
	for i := range rows {
		rows[i].fill(results[i])
	}
	return nil
}

func (s *Server) tryAtomic(resp *otsprotocol.BatchWriteRowResponse, rows []batchRow) ([]result, error) {
	for _, table := range resp.Tables {
		for _, answer := range table.Rows {
			if e := answer.Error; e != nil {
				return nil, &serviceError{0, e.GetCode(), e.GetMessage()}
			}
		}
	}
	changes := make([]*change, len(rows))
	for i := range rows {
		changes[i] = rows[i].change
		if first := changes[0]; first.table != changes[i].table || !bytes.Equal(first.row.key[0].value, changes[i].row.key[0].value) {
			return nil, &serviceError{0, "OTSDataOutOfRange", "The rows of an atomic batch must have the same table and partition key."}
		}
	}
	defer s.rows.lock(changes)()
	w := &writer{s: s, batch: s.db.NewIndexedBatch(), now: s.now()}
	defer w.batch.Close()
	results := make([]result, len(changes))
	for i, ch := range changes {
		if results[i] = w.write(ch); results[i].err != nil {
			return nil, results[i].err
		}
	}
	return results, w.batch.Commit(s.durable)
}
