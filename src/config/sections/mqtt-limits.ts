/** `mqtt.limits:`, declared. What happens at each is in the README's table. */
import { duration, integer, section, size } from '../setting.ts';

export const mqttLimits = section(
  'Limits of the MQTT side. A reached limit refuses or waits; it never drops what was acknowledged.',
  {
    connections: integer('Connected clients.', 10_000, { min: 1, max: 1_000_000 }),
    packet: size('One MQTT packet, checked before it is buffered.', '256KiB', '1KiB', '256MiB'),
    pending_per_client: integer('Publishes of one client that wait for their acknowledgement.', 64, {
      min: 1,
      max: 65_535,
    }),
    pending: size('Payload bytes of all clients that wait for their acknowledgement.', '64MiB', '64KiB', '64GiB'),
    rate_per_client: integer('Publishes per second of one user; 0 = no limit.', 0, { min: 0, max: 1_000_000 }),
    connect_timeout: duration('Time from the TCP connection to CONNECT.', '5s', '100ms', '5m'),
    keepalive_max: duration('Longest keep-alive a client may ask for.', '1h', '1s', '65535s'),
    client_id_length: integer('Characters of a client id.', 128, { min: 1, max: 65_535 }),
    topic_levels: integer('Levels of a topic.', 16, { min: 1, max: 128 }),
    retained_messages: integer('Retained messages kept in memory.', 10_000, { min: 0, max: 10_000_000 }),
    offline_sessions: integer('Sessions kept for clients that are away.', 1_000, { min: 0, max: 1_000_000 }),
    offline_queue: integer('Messages queued for one such session.', 100, { min: 0, max: 1_000_000 }),
    subscriptions_per_client: integer('Subscriptions of one client.', 50, { min: 1, max: 100_000 }),
    drain_timeout: duration('A subscriber that does not read for this long is disconnected.', '10s', '100ms', '10m'),
    // not below what a socket buffers before it says that it is full: nothing says when less than that has left
    unsent: size('Replies that wait for a client that does not read them.', '256KiB', '64KiB', '64MiB'),
    subscribe_rate: integer('SUBSCRIBE and UNSUBSCRIBE packets per second of one client.', 50, {
      min: 1,
      max: 1_000_000,
    }),
    qos2_window: integer('QoS 2 exchanges that one client has begun and not finished.', 1_000, { min: 1, max: 65_535 }),
    logins: integer('Passwords that wait to be checked.', 1_000, { min: 1, max: 1_000_000 }),
    forwards: integer(
      'Live copies per second for local subscribers, all together; a twentieth of it each has for itself besides.',
      10_000,
      { min: 1, max: 10_000_000 },
    ),
  },
);
