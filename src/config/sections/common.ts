/** What several sections of the configuration declare alike: ports, hosts, names of fields, certificates. */
import { entry, FILE, list, optionalText } from '../setting.ts';

export const PORT = { min: 0, max: 65_535 };
export const IDENTIFIER = '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$';
export const HOST = { expected: 'a host name or an address, without a port', pattern: '^[A-Za-z0-9._:-]+$' };
/** A payload field or tag: dots reach into objects, and no part is empty. */
export const FIELD = {
  expected: 'the name of a field, such as temperature or env.temperature',
  pattern: '^[^.\\u0000-\\u001f\\u007f]+(\\.[^.\\u0000-\\u001f\\u007f]+)*$',
  maxLength: 128,
};
export const MAX_LIST = 256;

export const fields = (sentence: string, fallback: readonly string[] = []) =>
  list(sentence, entry('A field.', FIELD), fallback, { max: MAX_LIST, expected: 'a list of field names' });

export const clientTls = {
  ca: optionalText('Certificates of the authorities to trust; default: those of the system.', FILE),
  cert: optionalText("Millrace's own certificate, where the server asks for one.", FILE),
  key: optionalText('Private key of `cert`.', FILE),
};
