package local

import (
	"math"
	"time"
	"unicode/utf8"
)

// The limits of the wide-column model, as the service documents them.
const (
	maxNameLen        = 255
	minInstanceLen    = 3
	maxInstanceLen    = 16
	maxTables         = 64
	maxKeyColumns     = 4
	maxKeyValue       = 1 << 10
	maxDefinedColumns = 32
	maxIndexes        = 5 // secondary ones of a table
	maxIndexKey       = 4 // columns, before those of the table's key that it lacks
	maxIndexColumns   = 32
	maxSearchFields   = 1000 // of a search index, those inside others included
	maxSubfields      = 100  // in one nested field
	maxNesting        = 5    // levels
	maxVectors        = 5    // fields of type VECTOR
	maxDimension      = 4096
	maxBuilding       = 10 // search indexes of an instance in phase FULL
	defaultFuzzyChars = 7
	maxFuzzySpan      = 6
	maxCellValue      = 2 << 20
	maxColumns        = 1024 // attribute columns in one write
	maxFullColumns    = 256  // attribute columns of a row whose table has update_full_row
	maxWrite          = 4 << 20
	maxBatchWrite     = 200
	maxBatchGet       = 100
	maxColumnsToGet   = 128
	maxFilters        = 10
	maxBody           = 5 << 20
	maxScanRows       = 5000
	maxScanBytes      = 4 << 20
	capacityUnit      = 4 << 10 // bytes in a capacity unit

	minTimeToLive    = 86400
	maxVersion       = math.MaxInt64 / 1000    // exclusive, in milliseconds
	maxDeviation     = math.MaxInt64 / 1000000 // in seconds
	defaultDeviation = 86400
	maxReserved      = 100_000         // capacity units of a table
	minAdjustment    = 2 * time.Minute // between changes of reserved throughput
	maxStreamHours   = 168
	maxRecords       = 5000 // in one answer
	maxRecordBytes   = 4 << 20
)

// validName tells whether s can name a table, or a column that a table is
// created with.
func validName(s string) bool {
	if len(s) == 0 || len(s) > maxNameLen {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// checkInstanceName holds the rule of the console: letters, digits and hyphens,
// beginning with a letter and not ending with a hyphen.
func checkInstanceName(s string) error {
	ok := len(s) >= minInstanceLen && len(s) <= maxInstanceLen && s[len(s)-1] != '-'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		ok = letter || i > 0 && ('0' <= c && c <= '9' || c == '-')
	}
	if !ok {
		return invalid("Invalid instance name: '%s'.", s)
	}
	return nil
}

func checkTableName(s string) error {
	if !validName(s) {
		return invalid("Invalid table name: '%s'.", s)
	}
	return nil
}

// checkColumnName holds the rule for attributes, as wide as the service has it:
// the documentation allows what validName does, but names in other scripts and
// with punctuation are written and read, and only a leading '#' is refused.
func checkColumnName[T string | []byte](name T) error {
	if len(name) == 0 || len(name) > maxNameLen || name[0] == '#' || !utf8.Valid([]byte(name)) {
		return errColumnName(string(name))
	}
	return nil
}

func errColumnName(s string) error { return invalid("Invalid column name: '%s'.", s) }

// checkKeyCell holds what can be said of a primary key cell without its table.
// Only the bounds of a range have infinite columns.
func checkKeyCell(c *cell, bound bool) error {
	if err := checkColumnName(c.name); err != nil {
		return err
	}
	switch {
	case c.value == nil:
		return invalid("No value is given for primary key name:'%s'.", c.name)
	case c.op != opNone:
		return invalid("OpType cannot be given for primary key name :'%s'.", c.name)
	case c.hasVersion:
		return invalid("Timestamp cannot be given for primary key name:'%s'.", c.name)
	}
	switch c.value[0] {
	case typeInteger, typeAutoIncrement:
		return nil
	case typeInfMin, typeInfMax:
		if bound {
			return nil
		}
	case typeString, typeBinary:
		if n := c.value.size(); n > maxKeyValue {
			return invalid("The length of primary key column: '%s' exceeds the MaxLength:%d with CurrentLength:%d.", c.name, maxKeyValue, n)
		}
		return checkUTF8(c)
	}
	return invalid("%s is an invalid type for the primary key.", typeName(c.value[0]))
}

// checkAttributeValue holds what can be said of an attribute's value.
func checkAttributeValue(c *cell) error {
	switch c.value[0] {
	case typeInteger, typeBoolean:
		return nil
	case typeDouble:
		if v := c.value.double(); math.IsNaN(v) {
			return invalid("NaN can't be set to double value.")
		} else if math.IsInf(v, 0) {
			return invalid("Infinity can't be set to double value.")
		}
		return nil
	case typeString, typeBinary:
		if n := c.value.size(); n > maxCellValue {
			return invalid("The length of attribute column: '%s' exceeds the MaxLength:%d with CurrentLength:%d.", c.name, maxCellValue, n)
		}
		return checkUTF8(c)
	}
	return invalid("%s is an invalid type for the attribute column.", typeName(c.value[0]))
}

func checkUTF8(c *cell) error {
	if c.value[0] == typeString && !utf8.Valid(c.value.bytes()) {
		return invalid("Value of column '%s' must be UTF8 encoding.", c.name)
	}
	return nil
}

func checkVersion(v int64) error {
	if v < 0 || v >= maxVersion {
		return invalid("Timestamp must be in range [0, INT64_MAX/1000).")
	}
	return nil
}

// typeName is what the service calls a type in its messages.
func typeName(t byte) string {
	switch t {
	case typeInteger:
		return "VT_INTEGER"
	case typeDouble:
		return "VT_DOUBLE"
	case typeBoolean:
		return "VT_BOOLEAN"
	case typeString:
		return "VT_STRING"
	case typeBinary:
		return "VT_BLOB"
	case typeInfMin:
		return "VT_INF_MIN"
	case typeInfMax:
		return "VT_INF_MAX"
	case typeAutoIncrement:
		return "VT_AUTO_INCREMENT"
	}
	return "VT_NULL"
}
