/** Uplinks in the form in which each network server's documentation shows them, shortened. */
import assert from 'node:assert/strict';
import { decodeLorawan } from '../../../src/inspect/decode/lorawan.ts';
import { documentsOf, problemOf } from './sample.ts';

const THINGS_STACK = {
  end_device_ids: {
    device_id: 'dev1',
    application_ids: { application_id: 'app1' },
    dev_eui: '0004A30B001C0530',
    dev_addr: '00BCB929',
  },
  correlation_ids: ['as:up:01'],
  received_at: '2020-02-12T15:15:45.787Z',
  uplink_message: {
    f_port: 1,
    f_cnt: 5,
    frm_payload: 'gkHe',
    decoded_payload: { temperature: 1, luminosity: 0.64 },
    rx_metadata: [
      { gateway_ids: { gateway_id: 'gtw1' }, rssi: -35, snr: 5.2 },
      { gateway_ids: { gateway_id: 'gtw2' }, rssi: -90, snr: 7 },
    ],
    received_at: '2020-02-12T15:15:45.500Z',
  },
};

const CHIRPSTACK_4 = {
  deduplicationId: '3ac7e3c4-4401-4b8d-9386-a5c902f9202d',
  time: '2022-07-18T09:34:15.775023242+00:00',
  deviceInfo: {
    tenantName: 'ChirpStack',
    applicationName: 'Test application',
    deviceName: 'Test device',
    devEui: '0101010101010101',
  },
  devAddr: '00189440',
  fCnt: 4,
  fPort: 1,
  data: 'qg==',
  object: { temperature: 21.5 },
  rxInfo: [{ gatewayId: '0016c001f153a14c', rssi: -48, snr: 9 }],
};

const CHIRPSTACK_3 = {
  applicationID: '123',
  applicationName: 'temperature-sensor',
  deviceName: 'garden-sensor',
  devEUI: 'AgICAgICAgI=',
  rxInfo: [{ gatewayID: 'AwMDAwMDAwM=', time: '2019-11-08T13:59:25.048445Z', rssi: -48, loRaSNR: 9 }],
  fCnt: 10,
  fPort: 5,
  data: '...',
  objectJSON: '{"temperatureSensor":25,"humiditySensor":32}',
};

const HELIUM = {
  app_eui: '6081F9BF908E2EA0',
  dev_eui: '6081F9A96B8E2EA0',
  devaddr: '01000048',
  decoded: { payload: { battery: 3.1 }, status: 'success' },
  fcnt: 7,
  hotspots: [{ name: 'round-pine', rssi: -100, snr: -3.5 }],
  name: 'my-device',
  payload: 'AAA=',
  port: 2,
  reported_at: 1619562788361,
};

describe('Decoding LoRaWAN uplinks', () => {
  it('reads The Things Stack', () => {
    assert.deepEqual(documentsOf(decodeLorawan, JSON.stringify(THINGS_STACK)), [
      {
        temperature: 1,
        luminosity: 0.64,
        uplink: {
          server: 'things-stack',
          device: 'dev1',
          dev_eui: '0004a30b001c0530',
          application: 'app1',
          time: '2020-02-12T15:15:45.500Z',
          f_cnt: 5,
          f_port: 1,
          gateways: 2,
          rssi: -35,
          snr: 5.2,
        },
      },
    ]);
  });

  it('takes an absent frame counter of The Things Stack for 0, which its JSON leaves out', () => {
    const { f_cnt: _, ...message } = THINGS_STACK.uplink_message;
    const [document] = documentsOf(decodeLorawan, JSON.stringify({ ...THINGS_STACK, uplink_message: message }));
    assert.equal((document as { uplink: { f_cnt: number } }).uplink.f_cnt, 0);
  });

  it('reads ChirpStack v4', () => {
    assert.deepEqual(documentsOf(decodeLorawan, JSON.stringify(CHIRPSTACK_4)), [
      {
        temperature: 21.5,
        uplink: {
          server: 'chirpstack',
          device: 'Test device',
          dev_eui: '0101010101010101',
          application: 'Test application',
          time: '2022-07-18T09:34:15.775023242+00:00',
          f_cnt: 4,
          f_port: 1,
          gateways: 1,
          rssi: -48,
          snr: 9,
        },
      },
    ]);
  });

  it('reads ChirpStack v3, with its object as text and its EUI as base64', () => {
    assert.deepEqual(documentsOf(decodeLorawan, JSON.stringify(CHIRPSTACK_3)), [
      {
        temperatureSensor: 25,
        humiditySensor: 32,
        uplink: {
          server: 'chirpstack',
          device: 'garden-sensor',
          dev_eui: '0202020202020202',
          application: 'temperature-sensor',
          time: '2019-11-08T13:59:25.048445Z',
          f_cnt: 10,
          f_port: 5,
          gateways: 1,
          rssi: -48,
          snr: 9,
        },
      },
    ]);
    const { objectJSON: _, ...rest } = CHIRPSTACK_3;
    const [document] = documentsOf(
      decodeLorawan,
      JSON.stringify({ ...rest, devEUI: '0202020202020202', object: { a: 1 } }),
    );
    assert.equal((document as { a: number }).a, 1);
  });

  it("reads Helium's console", () => {
    assert.deepEqual(documentsOf(decodeLorawan, JSON.stringify(HELIUM)), [
      {
        battery: 3.1,
        uplink: {
          server: 'helium',
          device: 'my-device',
          dev_eui: '6081f9a96b8e2ea0',
          application: '6081F9BF908E2EA0',
          time: 1619562788361,
          f_cnt: 7,
          f_port: 2,
          gateways: 1,
          rssi: -100,
          snr: -3.5,
        },
      },
    ]);
  });

  const bad: [what: string, payload: unknown, code: string, field: string][] = [
    ['another envelope', { temperature: 1 }, 'malformed', ''],
    ['a join', { end_device_ids: {}, join_accept: {} }, 'malformed', ''],
    ['an uplink that nobody decoded', { ...CHIRPSTACK_4, object: undefined }, 'malformed', '/object'],
    ['a decoded object that is a list', { ...HELIUM, decoded: { payload: [1] } }, 'malformed', '/decoded/payload'],
    ['an object in bad JSON', { ...CHIRPSTACK_3, objectJSON: '{"a":' }, 'malformed', '/objectJSON'],
    ['a field named uplink', { ...CHIRPSTACK_4, object: { uplink: 1 } }, 'malformed', '/object/uplink'],
    ['wrong types all over', { deviceInfo: { deviceName: [] }, rxInfo: 7, object: 'x' }, 'malformed', '/object'],
  ];
  for (const [what, payload, code, field] of bad) {
    it(`refuses ${what}`, () => {
      const problem = problemOf(decodeLorawan, JSON.stringify(payload));
      assert.deepEqual([problem.code, problem.field], [code, field], problem.reason);
    });
  }

  it('refuses __proto__ in the object as text', () => {
    const payload = JSON.stringify({ ...CHIRPSTACK_3, objectJSON: '{"__proto__":{"a":1}}' });
    assert.equal(problemOf(decodeLorawan, payload).code, 'forbidden-key');
  });
});
