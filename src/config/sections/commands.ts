/** `commands:`, declared. */
import { duration, entry, integer, optionalSection, optionalText, text } from '../setting.ts';

export const commands = optionalSection(
  'Commands to devices, from the topic <prefix>.commands or by HTTP; absent: there are none.',
  {
    topic: entry('Where a device listens for them, such as devices/{device}/commands.', {
      expected: 'a topic with {device}, such as devices/{device}/commands',
      maxLength: 400,
    }),
    client: text('Client id of a device.', '{device}', { expected: 'a client id with {device}', maxLength: 128 }),
    responses: optionalText('Where it answers, unless the command says so; {device} and {id} are filled in.', {
      expected: 'a topic such as devices/{device}/responses',
      maxLength: 400,
    }),
    ttl: duration('How long a command waits that says nothing else; then it has expired.', '1h', '1s', '30d'),
    pending: integer('Commands that wait for their devices, in all; further ones are refused.', 10_000, {
      min: 1,
      max: 1_000_000,
    }),
    pending_per_device: integer('Commands that wait for one device; further ones are refused.', 100, {
      min: 1,
      max: 100_000,
    }),
    rate: integer('Commands and outcomes read per second; the others wait in their log.', 1_000, {
      min: 10,
      max: 100_000,
    }),
  },
);
