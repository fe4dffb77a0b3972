/** Writes small ONNX models for tests, by protobufjs' reflection and the field numbers of onnx.proto. */
import protobuf from 'protobufjs';

const { root } = protobuf.parse(
  `
  syntax = "proto3";
  message Model { int64 ir_version = 1; Graph graph = 7; repeated Opset opset_import = 8; }
  message Opset { string domain = 1; int64 version = 2; }
  message Graph {
    repeated Node node = 1; string name = 2; repeated Tensor initializer = 5; repeated Value input = 11; repeated Value output = 12;
  }
  message Node { repeated string input = 1; repeated string output = 2; string op_type = 4; }
  message Tensor { repeated int64 dims = 1; int32 data_type = 2; repeated float float_data = 4; string name = 8; }
  message Value { string name = 1; Type type = 2; }
  message Type { TensorType tensor_type = 1; }
  message TensorType { int32 elem_type = 1; Shape shape = 2; }
  message Shape { repeated Dim dim = 1; }
  message Dim { int64 dim_value = 1; string dim_param = 2; }
`,
  { keepCase: true },
);

const FLOAT = 1;

/** `count` rows of as many windows as there are weights -> for each the weighted sum, through `last` (an operator of one argument). */
export function linearModel(weights: readonly number[], last = 'Identity', columns = 1): Buffer {
  const value = (name: string, size: number) => ({
    name,
    type: { tensor_type: { elem_type: FLOAT, shape: { dim: [{ dim_param: 'count' }, { dim_value: size }] } } },
  });
  const graph = {
    name: 'linear',
    input: [value('windows', weights.length)],
    output: [value('score', columns)],
    initializer: [
      {
        name: 'weights',
        dims: [weights.length, columns],
        data_type: FLOAT,
        float_data: weights.flatMap((weight) => Array.from({ length: columns }, () => weight)),
      },
    ],
    node: [
      { op_type: 'MatMul', input: ['windows', 'weights'], output: ['sum'] },
      { op_type: last, input: ['sum'], output: ['score'] },
    ],
  };
  const type = root.lookupType('Model');
  return Buffer.from(type.encode(type.fromObject({ ir_version: 7, opset_import: [{ version: 13 }], graph })).finish());
}
